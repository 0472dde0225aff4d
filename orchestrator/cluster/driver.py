"""The head's Ray driver, a process of its own: it sends commands to slots and hands on what they say.

Ray ends a driver whose head dies, and deserialises what hosts send; neither happens in the loop, which has the journal
and the API key. The loop talks to it by frames on its standard input and output, and it ends with its input.
"""

import asyncio
import ctypes
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from orchestrator import files
from orchestrator.cluster.slot import RemoteSlot
from orchestrator.execution import frames, join
from orchestrator.execution.frames import Message

START_S = 60.0
CONNECT_S = 40.0
OBJECT_STORE_BYTES = 100 << 20  # the least that Ray takes; messages are small
STAMP_S = 3.0
CLOSE_S = 20.0
PR_SET_PDEATHSIG = 1
WRONG_TOKEN = "the cluster at {} has another token: copy the head's token file here, or name it with --token-file"  # noqa: S105  # a message


class Refused(Exception):
    """The cluster cannot be used; one line with the mend."""


class WrongToken(Refused):
    """Its head does not take our token: no use in trying again."""


def die_with_parent() -> None:
    """Have the kernel end this process when the thread that started it dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def ray_start(*arguments: str, folder: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start `ray start` in the foreground; its sockets and logs lie in a folder for its owner alone."""
    argv = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block", *arguments]
    argv += ["--temp-dir", str(folder / "r"), "--num-cpus=0", "--num-gpus=0", "--disable-usage-stats"]
    with (folder / "ray.log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603  # an argv list of ours
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, preexec_fn=die_with_parent,  # noqa: PLW1509
            start_new_session=True,
        )  # fmt: skip


def end_process(process: "subprocess.Popen[bytes]", timeout_s: float = 15.0) -> None:
    """End a process that we started in a session of its own, by its id, and what it leaves in its group.

    Ray's agents outlive a raylet that was killed, by a minute where the head is gone too.
    """
    with suppress(OSError):
        process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        with suppress(OSError):
            process.kill()
        process.wait()
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


class Driver:
    """Commands in, messages out."""

    def __init__(self, actor: type[RemoteSlot], out: BinaryIO) -> None:
        """Serve slots that are actors of a class."""
        self._actor, self._out, self._lock = actor, out, threading.Lock()
        self._actors: dict[int, Any] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def say(self, message: Message, data: bytes = b"") -> None:
        """Send a frame to the loop."""
        with self._lock:
            frames.send(self._out, message, data)

    async def serve(self, source: BinaryIO) -> None:
        """Serve until the loop ends its side."""
        loop, commands = asyncio.get_running_loop(), asyncio.Queue[Message | None]()

        def read() -> None:
            with suppress(frames.BrokenFrame, OSError, ValueError):
                while (frame := frames.receive(source)) is not None:
                    loop.call_soon_threadsafe(commands.put_nowait, frame[0])
            loop.call_soon_threadsafe(commands.put_nowait, None)

        threading.Thread(target=read, daemon=True).start()
        while (command := await commands.get()) is not None:
            self.handle(command)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.close(), CLOSE_S)

    def handle(self, command: Message) -> None:
        """Begin a command; its messages carry its call's number."""
        import ray  # noqa: PLC0415  # an optional extra

        slot, call = int(command["slot"]), int(command["call"])
        if command["do"] == "end":
            if slot in self._actors:
                self._spawn(self.ended(slot, str(command["why"])))
        elif command["do"] == "drop":
            if slot in self._actors:
                ray.kill(self._actors.pop(slot))
        else:
            if command["do"] == "take":
                resources = dict.fromkeys(command["resources"], 1)
                made = ray.remote(self._actor).options(
                    resources=resources, num_cpus=0, max_restarts=0, max_task_retries=0
                )
                self._actors[slot] = made.remote()
            self._spawn(self.converse(slot, call, command))

    async def converse(self, slot: int, call: int, command: Message) -> None:
        """Have a slot do something, and hand on what it says until it is done."""
        import ray  # noqa: PLC0415
        from ray.exceptions import RayError  # noqa: PLC0415

        actor = self._actors.get(slot)
        if actor is None:
            self.say({"call": call, "lost": "the slot is gone"})
            return
        try:
            await actor.do.remote(json.dumps(command))
            while True:
                for text, data in await actor.poll.remote():
                    message = frames.parse(text)
                    self.say({**message, "call": call}, data)
                    if message.keys() & {"done", "failed"}:
                        return
        except (RayError, frames.BrokenFrame) as error:
            if self._actors.get(slot) is actor:
                del self._actors[slot]
            with suppress(RayError):  # it may only be out of reach, and what it runs is given up
                ray.kill(actor)
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            why = next(
                (line for line in lines if line.startswith("The actor is dead because")), lines[0] if lines else ""
            )
            self.say(
                {"call": call, "lost": f"the slot's process or host is gone ({type(error).__name__}: {why[:300]})"}
            )

    async def ended(self, slot: int, why: str) -> None:
        """Have a slot end what it runs."""
        from ray.exceptions import RayError  # noqa: PLC0415

        with suppress(RayError):
            await self._actors[slot].end.remote(why)

    async def close(self) -> None:
        """End what runs on every slot and give the slots back."""
        await asyncio.gather(*(self.ended(slot, "the session ends") for slot in self._actors))

    def _spawn(self, work: Any) -> None:  # noqa: ANN401  # a coroutine
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def ask_store(address: str) -> str:
    """Return the head's facts from the cluster's store, "" if there are none. Raises Refused."""
    from ray.exceptions import AuthenticationError, RayError  # noqa: PLC0415

    raylet = importlib.import_module("ray._raylet")  # Ray has no public way to ask before a host has joined
    try:
        found = raylet.GcsClient(address=address).internal_kv_get(
            join.KEY.encode(), join.NAMESPACE.encode(), timeout=10
        )
    except AuthenticationError as error:
        raise WrongToken(WRONG_TOKEN.format(address)) from error
    except RayError as error:
        raise Refused(f"--address {address}: something listens there, but no Ray head answers: {error}") from error
    return found.decode() if found else ""


def open_cluster(hello: Message, folder: Path) -> "subprocess.Popen[bytes] | None":
    """Connect to the cluster, whose head is started if it is to be here and is not yet. Raises Refused."""
    address = str(hello["address"])
    head = None if join.is_answering(address) else start_head(address, folder)
    facts = ask_store(address)
    if facts:
        there = join.parse_facts(facts)
        if there.run != hello["run"] and time.time() - there.clock < join.FRESH_S:
            raise Refused(
                f"--address {address}: run {there.run} uses this cluster now: end it, or name another address"
            )
    connect(address, head)
    return head


def start_head(address: str, folder: Path) -> "subprocess.Popen[bytes]":
    """Start the cluster's head on this machine. Raises Refused."""
    if not join.is_own_address(address):
        raise Refused(
            f"--address {address}: nothing answers there, and it is no address of this machine: name this machine's"
        )
    host, port = join.split_address(address)
    head = ray_start(
        "--head", f"--node-ip-address={host}", f"--port={port}", "--include-dashboard=false",
        f"--object-store-memory={OBJECT_STORE_BYTES}", folder=folder, environment=dict(os.environ),
    )  # fmt: skip
    until = time.monotonic() + START_S
    while not join.is_answering(address, 1.0):
        if head.poll() is not None or time.monotonic() > until:
            end_process(head)
            raise Refused(f"Ray's head did not start at {address}: {last_line(folder / 'ray.log')}")
        time.sleep(0.2)
    return head


def connect(address: str, head: "subprocess.Popen[bytes] | None") -> None:
    """Connect this process to the head, whose own node may not be up yet. Raises Refused."""
    import ray  # noqa: PLC0415

    until = time.monotonic() + CONNECT_S
    while True:
        try:
            ray.init(
                address=address, namespace=join.NAMESPACE, log_to_driver=False, configure_logging=False,
                logging_level=logging.ERROR,
            )  # fmt: skip
        except (RuntimeError, ConnectionError, ValueError) as error:
            if time.monotonic() > until or (head is not None and head.poll() is not None):
                raise Refused(f"--address {address}: {str(error).splitlines()[0]}") from error
            time.sleep(1.0)
        else:
            return


def last_line(path: Path) -> str:
    """Return the last line of a log."""
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1][:300] if lines else "it said nothing"


def keep_stamping(facts: join.HeadFacts) -> None:
    """Write the head's facts into the cluster's store, again and again, for hosts that join."""
    from ray.experimental.internal_kv import _internal_kv_put  # noqa: PLC0415

    while True:
        _internal_kv_put(join.KEY, join.stamp(facts), overwrite=True, namespace=join.NAMESPACE)
        time.sleep(STAMP_S)


def run(actor: type[RemoteSlot] = RemoteSlot) -> None:
    """Serve the loop on standard input and output."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what Ray prints is not for the loop
    source = sys.stdin.buffer
    frame = frames.receive(source)
    if frame is None:
        return
    hello = frame[0]
    driver, head = Driver(actor, out), None
    with files.temporary_folder("arh-") as folder:
        try:
            head = open_cluster(hello, folder)
            threading.Thread(target=keep_stamping, args=(join.parse_facts(hello["facts"]),), daemon=True).start()
            driver.say({"up": True})
            asyncio.run(driver.serve(source))
        except Refused as error:
            driver.say({"refused": str(error)})
        finally:
            if head is not None:
                end_process(head)
    os._exit(0)  # Ray's threads need no farewell


if __name__ == "__main__":
    run()
