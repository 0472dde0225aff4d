"""The composition root: a Config becomes engine, place, proposer and session."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from orchestrator import propose
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
from orchestrator.types import View

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
            proposer=propose.build(config, journal, facts=where.facts(), environment=os.environ),
            runner=ContainerRunner(place=where, view=view),
            keeper=keeper,
            view=view,
        )


def default_tag() -> str:
    """The date, as upstream names its runs: nov23."""
    return f"{datetime.now(UTC).astimezone():%b%d}".lower()
