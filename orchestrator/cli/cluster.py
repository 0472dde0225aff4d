"""The command that joins a host to a cluster."""

import os
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import CURRENT_DIR, AcceptRisk, Task, TokenFile
from orchestrator.cluster.worker import Worker
from orchestrator.lifecycle import interruptible

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
