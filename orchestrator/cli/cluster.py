"""The commands for other machines: a host joins a cluster, a run becomes a job of Slurm."""

import os
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_group

from orchestrator.cli import run
from orchestrator.cli.options import (
    CURRENT_DIR,
    AcceptRisk,
    Data,
    Parallel,
    Profile,
    Target,
    Task,
    TokenFile,
    container_flags,
    make_default_tag,
    takes_target,
)
from orchestrator.cluster.slurm import print_script
from orchestrator.cluster.worker import Worker
from orchestrator.errors import ConfigError
from orchestrator.host.source import IN_IMAGE
from orchestrator.lifecycle import interruptible
from orchestrator.walls import container_labels
from orchestrator.walls.engine import Engine

app = typer.Typer()


@app.command("worker")
def join_cluster(
    address: Annotated[
        str, typer.Option("--address", help="HOST:PORT of the head, as `autoresearch loop` there has it.")
    ] = "",
    task: Task = CURRENT_DIR,
    token_file: TokenFile = None,
    slots: Annotated[
        int | None, typer.Option(help="Slots to offer. Default: as many devices as may be leased.")
    ] = None,
    node_ip: Annotated[
        str | None,
        typer.Option("--node-ip", help="Address of this host, as the head reaches it. Default: by the route."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder that the head's data was made from. Default: copied data/.")
    ] = None,
    accept_risk: AcceptRisk = None,
) -> None:
    """Offer this host's devices to the loop on another machine, until Ctrl-C; the loop may come and go."""
    worker = Worker(
        address=address, root=task.resolve(), token_file=token_file, slots=slots, node_ip=node_ip or "", data=data,
        accept_risk=tuple(accept_risk or ()), say=say,
    )  # fmt: skip
    with interruptible():
        try:
            worker.run(dict(os.environ))
        except KeyboardInterrupt:
            say("left the cluster")


def say(line: str) -> None:
    """Print a line at once."""
    print(f"worker: {line}", flush=True)


@app.command("slurm-script")
@takes_target
def print_slurm_script(
    target: Target,
    hours: Annotated[float, typer.Option(help="Time limit of the job; its session ends early enough.")] = 8.0,
    profile: Profile = "cpu",
    data: Data = IN_IMAGE,
    parallel: Parallel = None,
    accept_risk: AcceptRisk = None,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[-- LOOP OPTIONS]", help="More options of `autoresearch loop`.")
    ] = None,
) -> None:
    """Print a batch script that runs the loop as a job of Slurm, and ends its containers with the job; experimental."""
    tag, more = target.run or make_default_tag(), list(words or ())
    flags = {"tag": tag, "parallel": parallel, "limits.hours": hours}
    config = target.load_config(container_flags(profile, data, accept_risk) | flags)
    options = ["--run", tag, "--profile", profile, "--data", data if data == IN_IMAGE else str(Path(data).resolve())]
    options += ["--runs", str(target.runs.resolve())] if target.runs else []
    options += ["--parallel", str(parallel)] if parallel else []
    options += [word for risk in accept_risk or () for word in ("--accept-risk", risk)]
    given = {word.partition("=")[0] for word in more}
    if twice := sorted(given & {"--hours", "--task", "--executor", *options[::2]}):
        raise ConfigError(f"{twice[0]}: the script sets it itself; give it before the --, or leave it out")
    get_group(run.app).commands["loop"].make_context("loop", [*options, *more])  # refuses what the loop would refuse
    print(print_script(config, [*options, *more]), end="")


@app.command("remove-containers")
def remove_containers(
    session: Annotated[str, typer.Argument(metavar="OWNER", help="As their label autoresearch.owner has it.")],
) -> None:
    """Remove the containers and volumes of one session whose process is gone; others are not touched."""
    with closing(Engine.connect()) as engine:
        removed = engine.reap(lambda labels: container_labels.belongs_to(session, labels))
    print(f"removed: {', '.join(removed) or 'no container was left'}")
