"""What an engine cannot limit is known before anything runs, and stops the loop until it is accepted by name."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.errors import ConfigError
from orchestrator.preflight import require_resource_limits
from orchestrator.walls.engine import Engine

ALL = ("memory", "processors", "processes")


def engine(*, cgroup: str, controllers: str, security: str = "name=rootless") -> Engine:
    """One that says this of itself."""
    return Engine(cast("Any", None), {"cgroup": cgroup, "controllers": controllers, "security": security})


@pytest.mark.parametrize(
    ("found", "unlimited"),
    [
        (engine(cgroup="1", controllers="cpu,memory,pids"), ALL),
        (engine(cgroup="2", controllers=""), ALL),
        (engine(cgroup="2", controllers="memory,pids"), ("processors",)),
        (engine(cgroup="2", controllers="cpu,cpuset,memory,pids"), ()),
        (engine(cgroup="1", controllers="cpu,memory,pids", security=""), ()),
        (engine(cgroup="1", controllers="cpu,memory", security=""), ("processes",)),
    ],
)
def test_what_has_no_controller_behind_it_is_not_limited(found: Engine, unlimited: tuple[str, ...]) -> None:
    """A rootless engine on cgroup v1 says that it has controllers, and cannot use them."""
    assert unlimited == found.unsupported_limits
    assert found.limits is not bool(unlimited)


def test_it_is_refused_until_accepted() -> None:
    """By the name that the message gives."""
    half = engine(cgroup="2", controllers="memory,pids")

    with pytest.raises(ConfigError, match=r"cannot limit processors: .* --accept-risk limits"):
        require_resource_limits(cast("Any", SimpleNamespace(accept_risk=())), half)
    require_resource_limits(cast("Any", SimpleNamespace(accept_risk=("limits",))), half)
    require_resource_limits(
        cast("Any", SimpleNamespace(accept_risk=())), engine(cgroup="2", controllers="cpu,memory,pids")
    )
