"""Proposers: an LLM, a user's program, a sweep over constants, drafts, or the record of an earlier run."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from orchestrator import text
from orchestrator.config import Config
from orchestrator.errors import ConfigError
from orchestrator.logger import log
from orchestrator.propose import api_key, lessons
from orchestrator.propose.budget import Budget, Ledger, outlives_cache
from orchestrator.propose.distil import Distiller
from orchestrator.propose.models import Answer, Model, PriceBand, find_model
from orchestrator.propose.phases import CONSTANTS_FIRST
from orchestrator.propose.prompt import PromptBuilder
from orchestrator.propose.token_count import counter
from orchestrator.protocols import Proposer
from orchestrator.settings import Task
from orchestrator.types import Stages
from orchestrator.units import SECONDS_PER_HOUR

FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
SHELL = ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS")  # set for other programs, not used


def choose_proposer(config: Config, environment: Mapping[str, str]) -> Config:
    """Return the config with a proposer: the one named, else chosen by which options and keys are set."""
    if "proposer" in config.model_fields_set:
        return config
    has_key = config.api_key or config.claude.key_file or environment.get(api_key.VARIABLE)
    has_llm = has_key or config.claude.is_compatible
    chosen = "replay" if config.replay_of else "command" if config.command.argv else "claude" if has_llm else ""
    chosen = chosen or ("drafts" if (config.root / "drafts").is_dir() else "sweep")
    return config.model_copy(update={"proposer": chosen})


def notes(config: Config, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield notes for the user about the proposer, before it starts."""
    if config.proposer == "command" or (config.proposer == "mix" and config.command.argv):
        yield (
            f"{config.command.argv[0] if config.command.argv else 'the command'} proposes: it runs on this machine with"
            " your rights, outside of any container"
        )
    uses_api = config.proposer == "claude" or (config.proposer == "mix" and not config.command.argv)
    address = config.claude.base_url
    if uses_api and address and not config.claude.key_file and environment.get(api_key.VARIABLE):
        yield f"{api_key.VARIABLE} of your shell is sent to {address}; [claude] key_file names another key"
    if uses_api and (unused := [name for name in SHELL if environment.get(name)]):
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
    """Return the configured proposer, checked. Raises ConfigError or ProposerUnavailable.

    `waiting` is called with a reason while nothing runs because the LLM's API does not answer.

    Each kind is imported only when used: Optuna and the anthropic SDK take a second to import.
    """
    prompts(config).check()
    if config.proposer == "sweep":
        return _sweep(config)
    if config.proposer == "mix":
        from orchestrator.propose.mix import MixProposer  # noqa: PLC0415

        llm = (
            _command(config, ledger, environment, waiting)
            if config.command.argv
            else _claude(config, ledger, environment, waiting)
        )
        return MixProposer(llm=llm, sweep=_sweep(config), llm_share=config.mix.llm_share)
    if config.proposer == "replay":
        from orchestrator.propose.replay import ReplayProposer  # noqa: PLC0415

        if config.replay_of is None:
            raise ConfigError("--proposer replay: name the run to replay with --replay runs/NAME")
        return ReplayProposer.open(config.replay_of, config.task.name)
    if config.proposer == "drafts":
        from orchestrator.propose.drafts import DraftsProposer  # noqa: PLC0415

        return DraftsProposer.open(config.root, config.mutable_path.suffix)
    if config.proposer == "command":
        return _command(config, ledger, environment, waiting)
    return _claude(config, ledger, environment, waiting)


def find_distiller(proposer: Proposer) -> Distiller | None:
    """Return the LLM of a proposer, to be asked for lessons; None where there is none."""
    from orchestrator.propose.mix import MixProposer  # noqa: PLC0415

    llm = proposer.llm if isinstance(proposer, MixProposer) else proposer
    return llm if isinstance(llm, Distiller) else None


def _sweep(config: Config) -> Proposer:
    from orchestrator.propose.sweep import SweepProposer  # noqa: PLC0415

    return SweepProposer(profile=config.profile_name, seed=config.seed)


def _command(
    config: Config, ledger: Ledger, environment: Mapping[str, str], waiting: Callable[[str], None]
) -> Proposer:
    from orchestrator.propose.command import CommandProposer  # noqa: PLC0415

    return CommandProposer.open(config.command, prompts(config), _budget(config, ledger), environment, waiting)


def _budget(config: Config, ledger: Ledger) -> Budget:
    return Budget(ledger=ledger, max_usd=config.limits.max_usd, max_tokens=config.limits.max_tokens)


def prompts(config: Config) -> PromptBuilder:
    """Return the prompt builder of a task."""
    return PromptBuilder(
        instructions=config.root / config.task.instructions,
        prepare=config.root / "locked" / "prepare.py",
        facts=contract(config),
        limits=config.limits,
        count=counter(config.data_path / "tokenizer"),
        stagnation_after=config.claude.stagnation_after,
        constants_first=0 if config.proposer == "mix" else CONSTANTS_FIRST,
        metric=config.task.metric,
        lessons=config.runs / lessons.NAME if config.recording.lessons else None,
        file_name=config.task.mutable.name,
        contract=config.task.contract,
        trains=config.task.stages is Stages.TRAIN,
        by_threshold=config.task.threshold is not None,
    )


def contract(config: Config) -> dict[str, str]:
    """Return the limits of an experiment and its resources under the active profile."""
    profile = config.active_profile
    score = {"score": describe_metric(config.task)}
    if config.task.stages is not Stages.TRAIN:
        limit = f"{profile.score_budget_s:g} s for scoring, {profile.memory_gb:g} GB of memory, {profile.cpus:g} CPUs"
        return {**score, "profile": config.profile_name, "resources per experiment": limit}
    facts = {
        **score,
        "profile": config.profile_name,
        "resources per experiment": (
            f"{profile.time_budget_s:g} s of wall clock from start to end, {profile.memory_gb:g} GB of memory,"
            f" {profile.cpus:g} CPUs"
        ),
        "maximum checkpoint size": f"{profile.out_mb} MB",
        "time for load_model and its first prediction": (
            f"{profile.load_budget_s:g} s, plus the unused part of the training time"
        ),
        "scorer requests": (
            f"{profile.batch_rows} rows at a time, always of full length; in a second pass only the beginning of each"
            " row is real, one token at least, and filler follows"
        ),
    }
    with suppress(OSError, ValueError, KeyError, TypeError):  # a task need not count in tokens
        manifest = json.loads((config.data_path / "train" / "manifest.json").read_text(encoding="utf-8"))
        facts["training set"] = f"{int(manifest['tokens']):,} tokens"
    if config.profile_name == "cpu" and (features := processor_features()):
        facts["CPU features"] = ", ".join(features)
    return facts


def describe_metric(task: Task) -> str:
    """Return what a score is called, in what it is, and which scores are better or good enough."""
    kept = f"; every score is kept that reaches {task.threshold:g}" if task.threshold is not None else ""
    return f"{text.describe_metric(task.metric, task.unit, task.direction)}{kept}"


def processor_features() -> list[str]:
    """Return the instruction sets of this machine's CPU that can speed up a program, by their Linux names."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                return [name for name in line.split() if name in FEATURES]
    return []


def claude_models(config: Config) -> tuple[Model, ...]:
    """Return the models to ask in order, with the features of this endpoint."""
    claude, first = config.claude, find_model(config.claude.model)
    fallbacks = claude.fallback_models
    if fallbacks is None:  # elsewhere than at the provider's a model of the table need not exist
        fallbacks = () if claude.is_compatible else first.fallbacks
    return tuple(_at_endpoint(config, find_model(name)) for name in dict.fromkeys((claude.model, *fallbacks)))


def _at_endpoint(config: Config, model: Model) -> Model:
    """Return a row with the overrides of task.toml."""
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
