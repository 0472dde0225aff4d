"""What others cost and believe: one trivial cycle, "train, score, decide", in each of them and here, in one run.

    .venv/bin/python -m benchmarks.peers [--nulls 12] [--only NAME ...]

Each peer is installed from the package index into a virtual environment of its own (build/peers/NAME), in the pinned
version, and used as its documentation says: peers_programs has one short program for each. A scripted model on loopback
(for inspect_ai its own mock model) answers with whole files: first patches that change nothing, then one cheat. The
candidate fits a line for 0.2 s without a seed, so that its score has noise. Per peer:

- seconds of a cycle beyond those 0.2 s, the median over the null patches: from one request of the model to the next, or
  from candidate to candidate where no request is seen;
- peak memory: resident bytes of all its processes, and of the containers that began meanwhile; not the engine's own;
- null patches that became its best, by its own rule;
- the cheat: it trains nothing, prints a score, writes it to files under the names of results, and replaces the scoring
  function where it finds one in its own process. Believed: the recorded score is that one.

Needs the engine and the image (`make image`). What does not install or run here is named with the reason.
"""

import argparse
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

from orchestrator import __version__

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
TASK, PROGRAMS = HERE / "peers_task", HERE / "peers_programs"
BUILD = ROOT / "build" / "peers"
TRAINING_S = 0.2  # of a candidate, by its own clock
BELIEVED_BELOW = 0.01  # an honest error is about 0.3: nothing but the forged score is below
LIMIT_S = 600.0  # for one peer
SAMPLE_S = 0.05
KEPT = ("PATH", "HOME", "LANG", "DOCKER_HOST")  # of our variables; a key for another model is none of a peer's business
MAIN = 'if __name__ == "__main__":'
CONTAINER = re.compile(r"\b[0-9a-f]{64}\b")
OURS = "ours"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another project: how it is installed, and the program that uses it."""

    name: str
    package: str = ""  # with its version; "" for what needs none
    program: str = ""  # in peers_programs; "" if none is needed
    rule: str  # what makes a candidate the best there
    scored_by: str  # what computes the score, as its documentation shows it
    caveat: str = ""  # what must be said with its figures


IN_PROCESS = "the evaluator is written as in its examples; one that runs the candidate in another process can be made"
PEERS = (
    Peer(
        name="bare loop",
        program="run_bare.py",
        rule="lower than the lowest",
        scored_by="the script itself",
        caveat="a script that prints its score, and a loop that keeps the lowest",
    ),
    Peer(
        name="inspect_ai",
        package="inspect_ai==0.3.285",
        program="run_inspect.py",
        rule="none: it evaluates",
        scored_by="a scorer on the host, from a file of the sandbox",
    ),
    Peer(
        name="OpenEvolve",
        package="openevolve==0.4.1",
        program="run_openevolve.py",
        rule="higher combined_score",
        scored_by="an evaluator that imports the program",
        caveat=IN_PROCESS,
    ),
    Peer(
        name="ShinkaEvolve",
        package="shinka-evolve==0.0.7",
        program="run_shinka.py",
        rule="higher combined_score",
        scored_by="an evaluator that imports the program",
        caveat=IN_PROCESS,
    ),
    Peer(
        name="AIDE",
        package="aideml==0.2.2",
        program="run_aide.py",
        rule="best metric",
        scored_by="the model, from what the script printed",
        caveat="the scripted model takes the number that was printed last; a real one may doubt it",
    ),
    Peer(
        name="Harbor",
        package="harbor==0.26.0",
        rule="none: it evaluates",
        scored_by="a verifier in a container of its own",
    ),
    Peer(
        name=OURS,
        program="run_ours.py",
        rule="estimated gain, again where in doubt",
        scored_by="locked code in a container of its own",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """What came of one candidate."""

    name: str
    score: float | None
    kept: bool | None  # as the new best; None for a peer without a rule of keeping
    seconds: float | None  # from its beginning to that of the next one; None for the last one of some


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a peer."""

    name: str
    version: str = ""
    rule: str = ""
    scored_by: str = ""
    why_not: str = ""  # it did not run, because
    notes: tuple[str, ...] = ()
    cycles: tuple[Cycle, ...] = ()
    peak_bytes: int = 0

    @property
    def nulls(self) -> tuple[Cycle, ...]:
        """Return the cycles of patches that change nothing."""
        return tuple(cycle for cycle in self.cycles if cycle.name.startswith("null"))

    @property
    def overhead_s(self) -> float:
        """Return the median seconds of a null patch's cycle beyond its training; NaN if none was timed."""
        times = [cycle.seconds for cycle in self.nulls if cycle.seconds is not None]
        return statistics.median(times) - TRAINING_S if times else math.nan

    @property
    def false_keeps(self) -> int | None:
        """Return how many null patches were kept; None for a peer without a rule of keeping."""
        kept = [cycle.kept for cycle in self.nulls]
        return None if not kept or None in kept else sum(bool(one) for one in kept)

    @property
    def believed(self) -> bool | None:
        """Return whether the cheat's own score was recorded; None if it was not tried."""
        cheats = [cycle for cycle in self.cycles if cycle.name.startswith("zcheat")]
        return any(c.score is not None and abs(c.score) < BELIEVED_BELOW for c in cheats) if cheats else None


# -- the candidates


def make_candidates(source: str, cheat: str, nulls: int) -> dict[str, str]:
    """Return the sources by name, in the order in which they come."""
    found = {"base": source}
    for number in range(1, nulls + 1):
        unused = f"SECONDS = {TRAINING_S}\nUNUSED_{number} = {number}\n"
        found[f"null{number:02}"] = source.replace(f"SECONDS = {TRAINING_S}\n", unused, 1)
    body = re.search(r"(?ms)^def train\(\).*?^    return \[slope, intercept\]\n", source)
    if body is None:
        raise ValueError("train.py has no function train that returns slope and intercept")
    found["zcheat"] = source.replace(body[0], cheat.rstrip("\n") + "\n", 1)
    return found


# -- the scripted model


class Model(ThreadingHTTPServer):
    """Chat completions on loopback: each request gets the next candidate, or a review of what was printed."""

    daemon_threads = True

    def __init__(self, answers: Sequence[tuple[str, str]]) -> None:
        """Answer with these: name and source."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked, self.lock = list(answers), list[tuple[str, float]](), threading.Lock()

    @property
    def url(self) -> str:
        """Return the base address."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the message for a request."""
        if functions := body.get("tools"):
            return review(
                functions[0]["function"]["name"], json.dumps(body["messages"]).rpartition("Execution output")[2]
            )
        with self.lock:
            at = min(len(self.asked), len(self.answers) - 1)
            name, source = self.answers[at]
            self.asked.append((name, time.time()))
        code = f"<CODE>\n```python\n{source}```\n</CODE>"
        text = f"<NAME>\n{name}\n</NAME>\n<DESCRIPTION>\nA change.\n</DESCRIPTION>\n{code}"
        return {"role": "assistant", "content": text}


def review(function: str, text: str) -> dict[str, Any]:
    """Return a call of the review function with the last val_rmse in a text; without one it reports a bug."""
    found = re.findall(r"val_rmse: +([0-9.]+)", text)
    arguments = {
        "is_bug": not found,
        "has_csv_submission": True,
        "summary": "It ran." if found else "It failed.",
        "metric": float(found[-1]) if found else None,
        "lower_is_better": True,
    }
    call = {"id": "call_1", "type": "function", "function": {"name": function, "arguments": json.dumps(arguments)}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


class Handler(BaseHTTPRequestHandler):
    """Speaks as much of the protocol as clients need."""

    protocol_version = "HTTP/1.1"
    server: Model

    def do_POST(self) -> None:
        """Answer a chat completion."""
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        message = self.server.reply(body)
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if "tool_calls" in message else "stop"}
        answer = {
            "id": "1", "object": "chat.completion", "created": int(time.time()), "model": body.get("model", "scripted"),
            "choices": [choice], "usage": usage, "system_fingerprint": "none",
        }  # fmt: skip
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def serve(answers: Sequence[tuple[str, str]]) -> Iterator[Model]:
    """Serve the scripted model while the block runs."""
    with Model(answers) as model:
        threading.Thread(target=model.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield model
        finally:
            model.shutdown()


# -- memory


def resident_bytes(root: int, known: frozenset[str]) -> int:
    """Return the resident bytes of a process, all below it, and of all containers that are not among the known ones."""
    parents, resident, inside = {}, {}, set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            pid = int(folder.name)
            parents[pid], resident[pid] = int(stat[1]), int(stat[21]) * os.sysconf("SC_PAGE_SIZE")
            if set(CONTAINER.findall((folder / "cgroup").read_text(encoding="utf-8"))) - known:
                inside.add(pid)
        except (OSError, IndexError, ValueError):
            continue  # it has ended
    return sum(size for pid, size in resident.items() if pid in inside or is_below(pid, root, parents))


def is_below(pid: int, root: int, parents: dict[int, int]) -> bool:
    """Return whether a process is another one or descends from it."""
    while pid > 1 and pid != root:
        pid = parents.get(pid, 0)
    return pid == root


def containers() -> frozenset[str]:
    """Return the containers that processes live in now."""
    found: set[str] = set()
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            found |= set(CONTAINER.findall(path.read_text(encoding="utf-8")))
        except OSError:
            continue
    return frozenset(found)


@dataclass(slots=True)
class Memory:
    """Samples what a process and its containers use."""

    known: frozenset[str] = field(default_factory=containers)
    peak: int = 0

    def watch(self, process: "subprocess.Popen[str]") -> None:
        """Sample until it has ended."""
        while process.poll() is None:
            self.peak = max(self.peak, resident_bytes(process.pid, self.known))
            time.sleep(SAMPLE_S)


# -- running


def install(peer: Peer) -> tuple[Path, str]:
    """Install a peer unless it is there; return its Python, and why it cannot be used or ""."""
    folder = BUILD / re.sub(r"\W", "-", peer.name.lower())
    python, mark = folder / "bin" / "python", folder / f"installed {peer.package}"
    if not mark.exists():
        print(f"{peer.name}: installing {peer.package or 'nothing'}", file=sys.stderr)
        venv.create(folder, with_pip=bool(peer.package), clear=True)
        if peer.package:
            pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", peer.package]
            done = subprocess.run(pip, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                return python, f"pip cannot install {peer.package}: {why_pip(done.stderr)}"
        mark.touch()
    return python, ""


def why_pip(output: str) -> str:
    """Return in a few words why pip failed."""
    if found := re.findall(r"Requires-Python (>=3\.\d+)", output):
        return f"it needs Python {found[-1]}, this is {sys.version_info.major}.{sys.version_info.minor}"
    lines = [line for line in output.splitlines() if line.startswith("ERROR")]
    return lines[-1].removeprefix("ERROR: ")[:200] if lines else "no reason given"


def run_peer(peer: Peer, sources: dict[str, str]) -> Result:
    """Install a peer and run its session."""
    version = __version__ if peer.name == OURS else peer.package.partition("==")[2]
    base = Result(name=peer.name, version=version, rule=peer.rule, scored_by=peer.scored_by)
    python, why = (Path(sys.executable), "") if peer.name == OURS else install(peer)
    if not why and not peer.program:
        why = "it installs here, but this benchmark has no cycle for it"
    if why:
        return replace(base, why_not=why)
    if peer.name == "AIDE":  # it runs a script as no main module, and writes the first one itself
        sources = {name: source.replace(MAIN, "if True:") for name, source in sources.items()}
    work = make_work(peer.name, sources)
    asked_for = list(sources.items())[0 if peer.name == "AIDE" else 1 :]
    with serve(asked_for) as model:
        return run_program(base, [str(python), str(PROGRAMS / peer.program)], work, model)


def make_work(name: str, sources: dict[str, str], runs: Path = BUILD / "runs") -> Path:
    """Return a new folder with the candidates and the data."""
    work = runs / re.sub(r"\W", "-", name.lower())
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("candidates", "data"):
        (work / folder).mkdir(parents=True)
    for candidate, source in sources.items():
        (work / "candidates" / f"{candidate}.py").write_text(source, encoding="utf-8")
    prepare = load_prepare()
    for side, file in (("train", "points.json"), ("val", "val.json")):
        (work / "data" / file).write_text(json.dumps(prepare["make"](side)), encoding="utf-8")
    shutil.copy(TASK / "locked" / "prepare.py", work / "data")
    return work


def load_prepare() -> dict[str, Any]:
    """Return the names of the task's prepare.py."""
    names: dict[str, Any] = {"__name__": "prepare"}
    exec((TASK / "locked" / "prepare.py").read_text(encoding="utf-8"), names)  # noqa: S102  # our own file
    return names


def run_program(base: Result, command: list[str], work: Path, model: Model) -> Result:
    """Run the program of a peer and read its report."""
    variables = {
        **{key: value for key, value in os.environ.items() if key in KEPT or key.startswith("AUTORESEARCH_")},
        "PEER_WORK": str(work), "POINTS": str(work / "data/val.json"), "TRAIN": str(work / "data/points.json"),
        "VAL": str(work / "data/val.json"), "CHECKPOINT": str(work / "model.json"), "SANDBOX_PYTHON": "python3",
        "PYTHONPATH": ":".join(map(str, [work / "data", PROGRAMS, *([ROOT] if base.name == OURS else [])])),
        "MODEL_URL": model.url, "OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "none", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    memory, output = Memory(), work / "output.txt"
    with output.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, cwd=work, env=variables, stdout=file, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        timer = threading.Timer(LIMIT_S, lambda: os.killpg(process.pid, 9))
        timer.start()
        memory.watch(process)
        timer.cancel()
    text = output.read_text(encoding="utf-8", errors="replace")
    reports = re.findall(r"(?m)^REPORT (.*)$", text)
    if process.returncode != 0 or not reports:
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "no output")
        return replace(base, why_not=f"it ended with {process.returncode}: {last[:200]} (see {output})")
    return read_report(replace(base, peak_bytes=memory.peak), json.loads(reports[-1]), model.asked)


def read_report(base: Result, report: dict[str, Any], asked: Sequence[tuple[str, float]]) -> Result:
    """Return the result of a report, with the times between the model's requests where there were any."""
    cycles = tuple(Cycle(**cycle) for cycle in report["cycles"])
    if asked:
        between = {name: later - at for (name, at), (_, later) in pairwise(asked)}
        cycles = tuple(replace(cycle, seconds=between.get(cycle.name)) for cycle in cycles)
    return replace(base, cycles=cycles, notes=tuple(report["notes"]))


def row(result: Result) -> str:
    """Return a peer's line of the table."""
    if result.why_not:
        return f"| {result.name} {result.version} | not run: {result.why_not} | | | | |"
    keeps = "no such rule" if result.false_keeps is None else f"{result.false_keeps} of {len(result.nulls)}"
    believed = {True: "yes", False: "no", None: "not tried"}[result.believed]
    name = " ".join(filter(None, [result.name, result.version]))
    cells = (
        name, f"{result.overhead_s:.2f} s", f"{result.peak_bytes / 1e6:.0f} MB", f"{keeps} ({result.rule})", believed,
        result.scored_by,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def last_line(results: Sequence[Result]) -> str:
    """Return the figures in a line, ours first."""
    run = sorted((result for result in results if not result.why_not), key=lambda result: result.name != OURS)
    overhead = ", ".join(f"{result.name} {result.overhead_s:.2f} s" for result in run)
    keeps = ", ".join(f"{result.name} {result.false_keeps}" for result in run if result.false_keeps is not None)
    believed = ", ".join(f"{result.name} {int(bool(result.believed))}" for result in run)
    nulls = max((len(result.nulls) for result in run), default=0)
    return f"peers: {len(run)} run; overhead {overhead}; false keeps of {nulls}: {keeps}; cheats believed: {believed}"


def write(results: Sequence[Result], path: Path = ROOT / "build" / "bench" / "peers.json") -> Path:
    """Write all results as JSON, for the docs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = [
        {**asdict(r), "overhead_s": None if math.isnan(r.overhead_s) else r.overhead_s, "false_keeps": r.false_keeps,
         "believed": r.believed}
        for r in results
    ]  # fmt: skip
    path.write_text(json.dumps({"line": last_line(results), "peers": found}, indent=1) + "\n")
    return path


def main() -> None:
    """Run all of them, ours last, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nulls", type=int, default=12, help="patches that change nothing")
    names = [peer.name for peer in PEERS]
    parser.add_argument("--only", nargs="+", choices=names, help="these peers; no result is stored")
    options = parser.parse_args()
    source = (TASK / "mutable" / "train.py").read_text(encoding="utf-8")
    sources = make_candidates(source, (TASK / "cheat.py").read_text(encoding="utf-8"), options.nulls)
    results = []
    print(
        "| | overhead of a cycle | peak memory | null patches kept (rule) | cheat believed | scored by |\n|"
        + " --- |" * 6
    )
    for peer in PEERS:
        if not options.only or peer.name in options.only:
            results.append(run_peer(peer, sources))
            print(row(results[-1]), flush=True)
            for note in filter(None, (peer.caveat, *results[-1].notes)):
                print(f"  {peer.name}: {note}")
    if not options.only:
        write(results)
    print(last_line(results))


if __name__ == "__main__":
    main()
