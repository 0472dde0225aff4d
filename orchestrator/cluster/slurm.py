"""A batch script for Slurm: a loop as one job, whose containers end with it."""

import math
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator.config import Config
from orchestrator.errors import ConfigError
from orchestrator.types import Stages
from orchestrator.units import SECONDS_PER_HOUR

TEMPLATE = Path(__file__).with_name("slurm.sh")
LEAD_S = 120  # before the time limit: Slurm's signal, up to a minute earlier
LOOP_ENDS_S = 90  # within the lead: for the loop to end its trials; what is left is for removing containers
LOOP_MB = 2048  # of memory, for the loop itself
LEAST_S = 60  # of experiments


def print_script(config: Config, words: Sequence[str], *, command: Sequence[str] = (sys.executable,)) -> str:
    """Return the batch script of a run; `words` are more options of the loop. Raises ConfigError.

    `config.limits.hours` is the time limit of the job: the session gets what is left of it before the last trial.
    """
    hours, slots, box = config.limits.hours, config.parallel, config.active_profile
    reserve_s = LEAD_S + longest_trial_s(config)
    if hours * SECONDS_PER_HOUR < reserve_s + LEAST_S:
        least = math.ceil((reserve_s + LEAST_S) / SECONDS_PER_HOUR * 10) / 10
        raise ConfigError(
            f"--hours {hours:g}: the time limit of the job, of which {reserve_s:.0f} s go to its last trial and its"
            f" end: at least {least:g}"
        )
    values = {
        "RUN": config.tag,
        "MINUTES": math.ceil(hours * 60),
        "CPUS": slots * math.ceil(box.cpus),
        "MEMORY_MB": math.ceil(slots * box.memory_gb * 1024) + LOOP_MB,
        "GPUS": slots if config.profile_name == "gpu" else 0,
        "LEAD_S": LEAD_S,
        "LOOP_ENDS_S": LOOP_ENDS_S,
        "RESERVE_S": math.ceil(reserve_s),
        "HOURS": f"{hours - reserve_s / SECONDS_PER_HOUR:.3f}",
        "TASK": shlex.quote(str(config.root)),
        "PYTHON": shlex.join(command),
        "WORDS": shlex.join(words),
    }
    lines = TEMPLATE.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = (line for line in lines if values["GPUS"] or "@GPUS@" not in line)
    return re.sub(r"@([A-Z_]+)@", lambda found: str(values[found[1]]), "".join(kept))


def longest_trial_s(config: Config) -> float:
    """Return how long a trial may take that is under way when the session's hours are over."""
    box = config.active_profile
    training = box.time_budget_s + box.grace_s if config.task.stages is Stages.TRAIN else 0.0
    return training + 2 * box.load_budget_s + box.score_budget_s
