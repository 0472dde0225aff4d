"""The composition root: a Config becomes engine, place, proposer and session."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.box import Place
from orchestrator.config import Config
from orchestrator.containers import Engine
from orchestrator.data import is_ready
from orchestrator.errors import ConfigError
from orchestrator.experiment import ContainerRunner
from orchestrator.journal import Journal
from orchestrator.keep import Keeper
from orchestrator.lease import Lease, LeasePolicy, lease
from orchestrator.loop import Session
from orchestrator.propose import budget, count, key
from orchestrator.propose.claude import ClaudeProposer, ClaudeSettings
from orchestrator.propose.prompt import PromptBuilder
from orchestrator.propose.replay import ReplayProposer
from orchestrator.propose.sweep import SweepProposer
from orchestrator.types import Proposer, View

SECONDS_PER_HOUR = 3600


def image_name(config: Config) -> str:
    """The image of a profile, as sandbox/image.sh names it."""
    return f"autoresearch-sandbox:{config.profile_name}"


def place(config: Config, engine: Engine, leased: Lease | None = None) -> Place:
    """Where experiments of this config run. Raises ConfigError or ImageMissing."""
    path = Path(__file__).parents[1] / "sandbox" / "seccomp.json"
    try:
        seccomp = path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}; restore it"
        raise ConfigError(message) from error
    engine.check_runtime(config.runtime)
    return Place(
        engine=engine,
        config=config,
        image_id=engine.image_id(image_name(config)),
        seccomp=seccomp,
        hardware=leased.hardware if leased else "",
        gpu_uuid=leased.device.uuid if leased and leased.device else None,
        cpuset=leased.cpuset if leased else "",
    )


def proposer(config: Config, journal: Journal, facts: Mapping[str, str]) -> Proposer:
    """The proposer that was asked for. Raises ConfigError before the first experiment, not in the night."""
    if config.proposer == "sweep":
        return SweepProposer(profile=config.profile_name, seed=config.seed)
    if config.proposer == "replay":
        if config.replay_of is None:
            message = "PROPOSER=replay needs the run to replay: REPLAY=runs/tag"
            raise ConfigError(message)
        return ReplayProposer.open(config.replay_of, config.task.name)
    claude = config.claude
    found = ClaudeProposer(
        settings=ClaudeSettings(
            model=claude.model,
            api_key=config.api_key or key.find(os.environ, claude.key_file),
            base_url=claude.base_url,
            extra_headers=claude.extra_headers,
            max_output_tokens=claude.max_output_tokens,
            thinking_tokens=claude.thinking_tokens,
            price=config.prices.models.get(claude.model),
            max_wait_s=claude.max_wait_hours * SECONDS_PER_HOUR,
        ),
        prompts=PromptBuilder(
            instructions=config.root / config.task.instructions,
            prepare=config.root / "locked" / "prepare.py",
            facts=facts,
            limits=config.limits,
            count=count.counter(config.data_path / "tokenizer"),
            drought=claude.drought,
        ),
        purse=budget.Purse(ledger=journal, max_usd=config.limits.max_usd, max_tokens=config.limits.max_tokens),
    )
    found.preflight()
    return found


@contextmanager
def session(config: Config, view: View) -> Iterator[Session]:
    """Everything a session needs; the lease, the journal and every container end with it."""
    engine = Engine.connect()
    if not is_ready(config.data_path):
        message = f"{config.data_path}: the data is not prepared; `make data` does it"
        raise ConfigError(message)
    policy = LeasePolicy(
        profile=config.profile_name, cpus=config.box.cpus, allow=config.gpu.allow, exclude=config.gpu.exclude,
        leave_free=config.gpu.leave_free,
    )  # fmt: skip
    waits = config.gpu.wait_hours * SECONDS_PER_HOUR
    with lease(policy, wait_s=waits, on_wait=view.waiting) as leased, Journal.open(config.run_path) as journal:
        keeper = Keeper(path=config.mutable_path, tag=config.tag)
        keeper.check()
        engine.reap()
        where = place(config, engine, leased)
        yield Session(
            config=config,
            journal=journal,
            proposer=proposer(config, journal, where.facts()),
            runner=ContainerRunner(place=where, view=view),
            keeper=keeper,
            view=view,
        )


def default_tag() -> str:
    """The date, as upstream names its runs: nov23."""
    return f"{datetime.now(UTC).astimezone():%b%d}".lower()
