"""Jobs of a real Slurm are cancelled, requeued and timed out, and a loop is killed: what stays of their containers?

    make test-slurm    # python -m tests.soak.slurm_jobs

A Slurm of one node on this machine, with daemons, ports and files of its own, the script as `autoresearch slurm-script`
prints it, the real loop and real containers. A container of somebody else's session must outlive all of it.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.record.journal import Journal
from orchestrator.walls.container_labels import owner_labels
from tests.soak import kill_storm

ROOT = Path(__file__).parents[2]
TRIAL_S = 300.0  # longer than any job here lives
SHORT_S = 8.0
WAIT_S = 240.0
IMAGE = "autoresearch-sandbox:cpu"
CONF = """\
ClusterName=check
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={port}
SlurmdPort={other_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slurm:
    """A cluster of one node."""

    folder: Path

    def environment(self) -> dict[str, str]:
        """What its commands need, and the loop: settings of tests."""
        return {
            **os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), "PYTHONPATH": str(ROOT),
            "AUTORESEARCH_NOISE__RULE": "lowest", "AUTORESEARCH_CONTENTION__MAX_EXTRA_WAIT_SHARE": "1",
        }  # fmt: skip

    def __call__(self, *argv: str) -> str:
        """What a command prints."""
        return subprocess.run(argv, env=self.environment(), capture_output=True, text=True, check=True).stdout.strip()

    def state(self, job: str) -> str:
        """The state of a job, as RUNNING; it is known for minutes after its end."""
        found = re.search(r"JobState=(\S+)", self("scontrol", "show", "job", job))
        return found[1] if found else ""


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """Start munged, slurmctld and slurmd, and end them by their ids."""
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    ports = free_ports(2)
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    text = CONF.format(
        folder=folder, host=socket.gethostname().partition(".")[0], user=os.environ.get("USER") or "root",
        port=ports[0], other_port=ports[1], cpus=os.cpu_count(), memory_mb=memory_mb * 9 // 10,
    )  # fmt: skip
    (folder / "slurm.conf").write_text(text)
    made, daemons = Slurm(folder=folder), list["subprocess.Popen[bytes]"]()
    munge = {"socket": "munge.socket", "key-file": "key", "pid-file": "munge.pid", "log-file": "munge.log",
             "seed-file": "munge.seed"}  # fmt: skip
    commands = (
        ["munged", "--foreground", "--force", *(f"--{key}={folder / name}" for key, name in munge.items())],
        ["slurmctld", "-D", "-i"],
        ["slurmd", "-D"],
    )
    try:
        for argv in commands:
            with (folder / f"{argv[0]}.out").open("ab") as out:
                daemons.append(subprocess.Popen(argv, env=made.environment(), stdout=out, stderr=out))
            if argv[0] == "munged":
                wait_for((folder / "munge.socket").exists, "munged")
        wait_for(lambda: "idle" in made("sinfo", "--noheader", "--format=%T"), "a node")
        yield made
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(60)


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens."""
    with ExitStack() as stack:
        return [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


def wait_for(condition: Callable[[], bool], what: str, seconds: float = WAIT_S) -> float:
    """Wait until it holds; after how many seconds."""
    began = time.monotonic()
    while True:
        try:
            if condition():
                return time.monotonic() - began
        except subprocess.CalledProcessError:
            pass  # the daemon does not answer yet
        if time.monotonic() - began > seconds:
            raise SystemExit(f"test-slurm: {what}: not within {seconds:.0f} s")
        time.sleep(0.2)


def containers(run: str, role: str = "") -> list[str]:
    """The ids of the containers and the names of the volumes of a run."""
    label = [f"label=autoresearch.run={run}", *([f"label=autoresearch.role={role}"] if role else [])]
    filters = [word for one in label for word in ("--filter", one)]
    found = [["docker", "ps", "-aq", *filters], ["docker", "volume", "ls", "-q", *filters]]
    return " ".join(subprocess.run(argv, capture_output=True, text=True, check=True).stdout for argv in found).split()


def make_task(folder: Path, trial_s: float) -> Path:
    """A task whose trials take that long."""
    kill_storm.BUDGETS = {"time_budget_s": trial_s, "score_budget_s": 20.0, "cpus": 1.0}
    folder.mkdir()
    return kill_storm.make_task(folder)


def submit(made: Slurm, task: Path, run: str, *, without: str = "") -> str:
    """Submit the script of a run, as a person would; the job's number."""
    argv = [sys.executable, "-m", "orchestrator", "slurm-script", "--task", str(task), "--run", run, "--", "--proposer",
            "sweep", "--experiments", "1"]  # fmt: skip
    lines = made(*argv).splitlines(keepends=True)
    text = "".join(line for line in lines if not (without and line.startswith(without)))
    script = made.folder / f"{run}.sh"
    script.write_text(text + "\n")
    return made("sbatch", "--parsable", f"--output={made.folder}/{run}.log", str(script))


def train(made: Slurm, task: Path, run: str, *, without: str = "") -> str:
    """Submit the script of a run and wait until its job trains; the job's number."""
    job = submit(made, task, run, without=without)
    wait_for(lambda: bool(containers(run, "trainer")), "the trainer of a job")
    return job


def cancel(made: Slurm, task: Path) -> None:
    """A job is cancelled while it trains."""
    job = train(made, task, "cancelled")
    made("scancel", job)
    after_s = wait_for(lambda: not containers("cancelled"), "the containers of a cancelled job to go", 60)
    wait_for(lambda: made.state(job) == "CANCELLED", "the job to be cancelled")
    print(f"cancelled: no container {after_s:.1f} s after scancel", flush=True)


def kill_loop(made: Slurm, task: Path) -> None:
    """The loop of a job is killed, as the kernel does where memory is short."""
    job = train(made, task, "killed")
    label = '{{index .Config.Labels "autoresearch.owner"}}'
    owner = made("docker", "inspect", "--format", label, containers("killed", "trainer")[0])
    os.kill(int(owner.split(":")[1]), 9)
    after_s = wait_for(lambda: not containers("killed"), "the containers of a killed loop to go", 60)
    wait_for(lambda: made.state(job) == "FAILED", "the job to fail")
    print(f"loop killed: no container after {after_s:.1f} s", flush=True)


def time_out(made: Slurm, task: Path) -> None:
    """Jobs meet their time limit: one is told before, the other is not."""
    told = train(made, task, "told")
    made("scontrol", "update", f"JobId={told}", "TimeLimit=2")  # so that the session's own end comes too late
    untold = train(made, task, "untold", without="#SBATCH --signal")
    made("scontrol", "update", f"JobId={untold}", "TimeLimit=1")
    for job in (told, untold):
        wait_for(lambda job=job: made.state(job) not in ("RUNNING", "COMPLETING"), "a job to end")  # type: ignore[misc]
    wait_for(lambda: not containers("told") and not containers("untold"), "the containers of both to go", 60)
    said = (made.folder / "told.log").read_text()
    assert "slurm: USR1: ending the session" in said, said
    print(f"time limit: told {made.state(told)}, not told {made.state(untold)}; no container left", flush=True)


def requeue(made: Slurm, task: Path) -> None:
    """A job is requeued while it trains, as where its node is given to another, and goes on where it was."""
    job = train(made, task, "requeued")
    made("scontrol", "requeue", job)
    wait_for(lambda: not containers("requeued"), "the containers of a requeued job to go", 60)
    wait_for(lambda: made.state(job) == "COMPLETED", "the requeued job to complete", 600)
    with Journal.read(task / "runs" / "requeued") as journal:
        found = [(one.status.value, one.attempt) for one in journal.experiments()]
    assert found[0][0] == "infra", found
    assert ("keep", 2) in found, found
    print(f"requeued: {found}", flush=True)


def main() -> int:
    """Submit, strike, count."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True)))
        folder.chmod(0o711)
        labels = owner_labels(tag="others", experiment_id=1, attempt=1, role="trainer", dies_in_s=3600.0)
        words = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        argv = ["docker", "run", "-d", "--network=none", *words, "--entrypoint", "sleep", IMAGE, "3600"]
        other = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
        stack.callback(subprocess.run, ["docker", "rm", "-f", other], capture_output=True, check=False)
        made = stack.enter_context(slurm(folder))
        try:
            long = make_task(folder / "long", TRIAL_S)
            for check in (cancel, kill_loop, time_out):
                check(made, long)
            requeue(made, make_task(folder / "short", SHORT_S))
        except BaseException:
            for log in sorted([*folder.glob("*.log"), *folder.glob("*.out")]):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}", flush=True)
            raise
        runs = ("cancelled", "killed", "told", "untold", "requeued")
        left = sum(len(containers(run)) for run in runs)
        kept = len(containers("others"))
        shutil.rmtree(folder / "long", ignore_errors=True)
    print(f"slurm: {len(runs)} jobs, {left} containers left, {kept} of another session untouched")
    return 0 if not left and kept == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
