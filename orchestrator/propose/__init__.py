"""Where ideas come from: an LLM, a sweep over constants, or the record of an earlier run."""

from collections.abc import Callable, Mapping

from orchestrator.config import Config
from orchestrator.errors import ConfigError
from orchestrator.propose import api_key
from orchestrator.propose.budget import Budget, Ledger, outlives_cache
from orchestrator.propose.prompt import PromptBuilder
from orchestrator.propose.token_count import counter
from orchestrator.protocols import Proposer
from orchestrator.units import SECONDS_PER_HOUR


def choose_proposer(config: Config, environment: Mapping[str, str]) -> Config:
    """The config with a proposer: the one named, else the one that what was given is for."""
    if "proposer" in config.model_fields_set:
        return config
    has_key = config.api_key or config.claude.key_file or environment.get(api_key.VARIABLE)
    found = "replay" if config.replay_of else "claude" if has_key else "sweep"
    return config.model_copy(update={"proposer": found})


def build(
    config: Config,
    ledger: Ledger,
    environment: Mapping[str, str],
    waiting: Callable[[str], None] = lambda _reason: None,
) -> Proposer:
    """The proposer that the configuration names, checked. Raises ConfigError or ProposerUnavailable.

    `waiting` is told when nothing runs because the LLM's API does not answer.

    Each kind is imported only when it is wanted: Optuna and the anthropic SDK take a second to import.
    """
    prompts(config).check()
    if config.proposer == "sweep":
        from orchestrator.propose.sweep import SweepProposer  # noqa: PLC0415

        return SweepProposer(profile=config.profile_name, seed=config.seed)
    if config.proposer == "replay":
        from orchestrator.propose.replay import ReplayProposer  # noqa: PLC0415

        if config.replay_of is None:
            raise ConfigError("--proposer replay: name the run to replay with --replay runs/NAME")
        return ReplayProposer.open(config.replay_of, config.task.name)
    return _claude(config, ledger, environment, waiting)


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


def _claude(config: Config, ledger: Ledger, environment: Mapping[str, str], waiting: Callable[[str], None]) -> Proposer:
    from orchestrator.propose.claude import ClaudeProposer, ClaudeSettings  # noqa: PLC0415

    wait_s, hours = config.claude.max_wait_hours * SECONDS_PER_HOUR, config.limits.hours
    settings = ClaudeSettings(
        model=config.claude.model,
        api_key=config.api_key or api_key.find_api_key(environment, config.claude.key_file),
        base_url=config.claude.base_url,
        extra_headers=config.claude.extra_headers,
        max_output_tokens=config.claude.max_output_tokens,
        thinking_tokens=config.claude.thinking_tokens,
        price=config.prices.models.get(config.claude.model),
        cache_for_an_hour=outlives_cache(config.active_profile),
        max_wait_s=min(wait_s, hours * SECONDS_PER_HOUR) if hours else wait_s,
    )
    budget = Budget(ledger=ledger, max_usd=config.limits.max_usd, max_tokens=config.limits.max_tokens)
    proposer = ClaudeProposer(settings=settings, prompts=prompts(config), budget=budget, waiting=waiting)
    proposer.preflight()
    return proposer
