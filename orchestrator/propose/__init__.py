"""Where ideas come from: an LLM, a sweep over constants, or the record of an earlier run."""

from collections.abc import Mapping

from orchestrator.config import Config
from orchestrator.errors import ConfigError
from orchestrator.propose import key
from orchestrator.propose.budget import Ledger, Purse
from orchestrator.propose.count import counter
from orchestrator.propose.prompt import PromptBuilder
from orchestrator.types import Proposer

CACHE_S = 300  # how long the API remembers a prompt by default
SECONDS_PER_HOUR = 3600


def build(config: Config, ledger: Ledger, *, facts: Mapping[str, str], environment: Mapping[str, str]) -> Proposer:
    """The proposer that the configuration names, checked. Raises ConfigError or ProposerUnavailable.

    Each kind is imported only when it is wanted: Optuna and the anthropic SDK take a second to import.
    """
    if config.proposer == "sweep":
        from orchestrator.propose.sweep import SweepProposer  # noqa: PLC0415

        return SweepProposer(profile=config.profile_name, seed=config.seed)
    if config.proposer == "replay":
        from orchestrator.propose.replay import ReplayProposer  # noqa: PLC0415

        if config.replay_of is None:
            message = "PROPOSER=replay needs the run to replay: REPLAY=runs/tag"
            raise ConfigError(message)
        return ReplayProposer.open(config.replay_of, config.task.name)
    return _claude(config, ledger, facts, environment)


def prompts(config: Config, facts: Mapping[str, str]) -> PromptBuilder:
    """What builds the prompts of a task."""
    box = config.box
    budget = f"{box.time_budget_s:g} s of wall clock, {box.memory_gb:g} GB of memory, {box.cpus:g} CPUs"
    hardware = facts.get("hardware") or f"{box.cpus:g} CPUs, no GPU"
    return PromptBuilder(
        instructions=config.root / config.task.instructions,
        prepare=config.root / "locked" / "prepare.py",
        facts={"profile": config.profile_name, "hardware": hardware, "one experiment has": budget},
        limits=config.limits,
        count=counter(config.data_path / "tokenizer"),
        drought=config.claude.drought,
    )


def _claude(config: Config, ledger: Ledger, facts: Mapping[str, str], environment: Mapping[str, str]) -> Proposer:
    from orchestrator.propose.claude import ClaudeProposer, ClaudeSettings  # noqa: PLC0415

    wait_s, hours = config.claude.max_wait_hours * SECONDS_PER_HOUR, config.limits.hours
    settings = ClaudeSettings(
        model=config.claude.model,
        api_key=config.api_key or key.find(environment, config.claude.key_file),
        base_url=config.claude.base_url,
        extra_headers=config.claude.extra_headers,
        max_output_tokens=config.claude.max_output_tokens,
        thinking_tokens=config.claude.thinking_tokens,
        price=config.prices.models.get(config.claude.model),
        cache_for_an_hour=config.box.time_budget_s + config.box.score_budget_s > CACHE_S,
        max_wait_s=min(wait_s, hours * SECONDS_PER_HOUR) if hours else wait_s,
    )
    purse = Purse(ledger=ledger, max_usd=config.limits.max_usd, max_tokens=config.limits.max_tokens)
    proposer = ClaudeProposer(settings=settings, prompts=prompts(config, facts), purse=purse)
    proposer.preflight()
    return proposer
