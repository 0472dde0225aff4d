"""Slots of a real Ray cluster that run no containers: they wait and score by arithmetic.

python -m tests.support.stand_in_slot    the driver of a loop whose slots are these
"""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.cluster import driver, host
from orchestrator.cluster.slot import RemoteSlot, Workplace
from orchestrator.errors import SandboxError
from orchestrator.events import ContainerStarted, body_of
from orchestrator.execution.frames import Message
from orchestrator.types import Candidate, Plan, Role, Trial
from tests.support import fakes

BUDGET_S = 8.0


@dataclass(slots=True)
class PausingRunner(fakes.ArithmeticRunner):
    """Takes its time, and can be ended."""

    pause_s: float = 0.2
    slot: RemoteSlot | None = None
    why: list[str] = field(default_factory=list)

    def run(self, candidate: Candidate, plan: Plan, *, experiment_id: int, folder: Path, best: float | None) -> Trial:
        """Wait, leave a log, and apply the function."""
        event = ContainerStarted(
            experiment_id=experiment_id, role=Role.TRAINER, container_id=f"c{plan.train_seed}", deadline_s=BUDGET_S
        )
        if self.slot is not None:
            self.slot.outbox.put({"event": event.kind, "body": body_of(event)})
            self.slot.outbox.put({"line": "training", "role": Role.TRAINER})
        if self.ended.wait(self.pause_s):
            self.ended.clear()
            raise SandboxError("ended")
        (folder / "trainer.log").write_text("trained\n")
        return fakes.ArithmeticRunner.run(self, candidate, plan, experiment_id=experiment_id, folder=folder, best=best)

    def give_back(self) -> None:
        """Hold nothing."""


def parabola(source: str) -> Trial:
    """Best at a learning rate of 0.05."""
    return fakes.scored(1.0 + abs(fakes.rate_of(source) - 0.05))


class StandInSlot(RemoteSlot):
    """The actor, with a runner that waits in the place of a leased device."""

    def open(self, order: Message) -> Workplace:
        """Make the runner; the order says how long a trial takes, and which host has which hardware."""
        hardware = order["settings"].get("hardware", {}).get(host.name(), "stand-in")
        runner = PausingRunner(parabola, hardware=hardware, slot=self)
        runner.pause_s = order["settings"]["pause_s"]
        folder = Path(tempfile.mkdtemp(prefix="slot-", dir=order["settings"]["folder"]))
        return Workplace(
            slot=runner,  # type: ignore[arg-type]
            outbox=self.outbox, folder=folder, checkpoint_bytes=1 << 20, image_id=order["image_id"],
        )  # fmt: skip


if __name__ == "__main__":
    from tests.support.stand_in_slot import StandInSlot as Importable  # by a name that its host can import

    time.sleep(0)
    driver.run(Importable)
