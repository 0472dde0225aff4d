"""Where ideas come from: an LLM, a program of the user's, a sweep over constants, or the record of an earlier run."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from orchestrator.config import Config
from orchestrator.errors import ConfigError
from orchestrator.propose import api_key
from orchestrator.propose.budget import Budget, Ledger, outlives_cache
from orchestrator.propose.models import Answer, Model, PriceBand, find_model
from orchestrator.propose.prompt import PromptBuilder
from orchestrator.propose.token_count import counter
from orchestrator.protocols import Proposer
from orchestrator.units import SECONDS_PER_HOUR

log = structlog.get_logger()
SHELL = ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS")  # set for other programs, not used


def choose_proposer(config: Config, environment: Mapping[str, str]) -> Config:
    """Return the config with a proposer: the one named, else the one that fits what was given."""
    if "proposer" in config.model_fields_set:
        return config
    has_key = config.api_key or config.claude.key_file or environment.get(api_key.VARIABLE)
    has_llm = has_key or config.claude.is_compatible
    chosen = "replay" if config.replay_of else "command" if config.command.argv else "claude" if has_llm else "sweep"
    return config.model_copy(update={"proposer": chosen})


def notes(config: Config, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield what the user should know about the proposer before it begins."""
    if config.proposer == "command":
        yield (
            f"{config.command.argv[0] if config.command.argv else 'the command'} proposes: it runs on this machine with"
            " your rights, outside of any container"
        )
    address = config.claude.base_url
    if config.proposer == "claude" and address and not config.claude.key_file and environment.get(api_key.VARIABLE):
        yield f"{api_key.VARIABLE} of your shell is sent to {address}; [claude] key_file names another key"
    if config.proposer == "claude" and (unused := [name for name in SHELL if environment.get(name)]):
        yield (
            f"{', '.join(unused)} of your shell {'is' if len(unused) == 1 else 'are'} not used: [claude] base_url,"
            " key_file and extra_headers name another endpoint"
        )


def build(
    config: Config,
    ledger: Ledger,
    environment: Mapping[str, str],
    waiting: Callable[[str], None] = lambda _reason: None,
) -> Proposer:
    """Return the proposer that the configuration names, checked. Raises ConfigError or ProposerUnavailable.

    `waiting` is told when nothing runs because the LLM's API does not answer.

    Each kind is imported only when it is wanted: Optuna and the anthropic SDK take a second to import.
    """
    for note in notes(config, environment):
        log.warning("proposer.note", note=note)
    prompts(config).check()
    if config.proposer == "sweep":
        from orchestrator.propose.sweep import SweepProposer  # noqa: PLC0415

        return SweepProposer(profile=config.profile_name, seed=config.seed)
    if config.proposer == "replay":
        from orchestrator.propose.replay import ReplayProposer  # noqa: PLC0415

        if config.replay_of is None:
            raise ConfigError("--proposer replay: name the run to replay with --replay runs/NAME")
        return ReplayProposer.open(config.replay_of, config.task.name)
    if config.proposer == "command":
        from orchestrator.propose.command import CommandProposer  # noqa: PLC0415

        return CommandProposer.open(config.command, prompts(config), _budget(config, ledger), environment, waiting)
    return _claude(config, ledger, environment, waiting)


def _budget(config: Config, ledger: Ledger) -> Budget:
    return Budget(ledger=ledger, max_usd=config.limits.max_usd, max_tokens=config.limits.max_tokens)


def prompts(config: Config) -> PromptBuilder:
    """What builds the prompts of a task."""
    box = config.active_profile
    budget = f"{box.time_budget_s:g} s of wall clock, {box.memory_gb:g} GB of memory, {box.cpus:g} CPUs"
    return PromptBuilder(
        instructions=config.root / config.task.instructions,
        prepare=config.root / "locked" / "prepare.py",
        facts={"profile": config.profile_name, "one experiment has": budget},
        limits=config.limits,
        count=counter(config.data_path / "tokenizer"),
        stagnation_after=config.claude.stagnation_after,
        metric=config.task.metric,
    )


def claude_models(config: Config) -> tuple[Model, ...]:
    """Return the models to ask, the first one first, as this endpoint takes them."""
    claude, first = config.claude, find_model(config.claude.model)
    fallbacks = claude.fallback_models
    if fallbacks is None:  # elsewhere than at the provider's a model of the table need not exist
        fallbacks = () if claude.is_compatible else first.fallbacks
    return tuple(_at_endpoint(config, find_model(name)) for name in dict.fromkeys((claude.model, *fallbacks)))


def _at_endpoint(config: Config, model: Model) -> Model:
    """Return a row with what task.toml says instead of the table."""
    claude, price = config.claude, config.prices.models.get(model.id)
    if not model.is_known and not claude.is_compatible:
        model = replace(model, cache_marks=True)
    if price is not None:
        model = replace(model, bands=(PriceBand(price=price),))
    if claude.answer is not None:
        model = replace(model, answer=Answer(claude.answer))
    return model if claude.cache is None else replace(model, cache_marks=claude.cache)


def _claude(config: Config, ledger: Ledger, environment: Mapping[str, str], waiting: Callable[[str], None]) -> Proposer:
    from orchestrator.propose.claude import ClaudeProposer, ClaudeSettings  # noqa: PLC0415
    from orchestrator.propose.messages_api import Endpoint  # noqa: PLC0415

    claude, hours, models = config.claude, config.limits.hours, claude_models(config)
    wait_s = claude.max_wait_hours * SECONDS_PER_HOUR
    for name in SHELL:  # the SDK would read them
        os.environ.pop(name, None)
    settings = ClaudeSettings(
        models=models,
        endpoint=Endpoint(
            api_key=config.api_key
            or api_key.find_api_key(environment, claude.key_file, is_needed=not claude.is_compatible),
            base_url=claude.base_url,
            auth=claude.auth,
            extra_headers=claude.extra_headers,
        ),
        effort=claude.effort,
        max_output_tokens=claude.max_output_tokens,
        max_refusals=claude.max_refusals,
        drop_fallbacks=claude.fallback_models is None,
        cache_for_an_hour=outlives_cache(config.active_profile),
        max_wait_s=min(wait_s, hours * SECONDS_PER_HOUR) if hours else wait_s,
    )
    proposer = ClaudeProposer(
        settings=settings, prompts=prompts(config), budget=_budget(config, ledger), waiting=waiting
    )
    proposer.preflight(datetime.now(UTC).date())
    log.info("proposer.ready", endpoint=settings.endpoint.url, models=[model.id for model in models],
             answer=models[0].answer.value)  # fmt: skip
    return proposer
