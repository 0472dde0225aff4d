"""Packs what a machine with a GPU and without a network needs for `make gpu-day`.

    make gpu-kit                                    # python -m gpu_day.kit

The project's files, packages that such a machine may lack, upstream's two scripts where a checkout is named, and
prepared data, in order of worth. What does not fit under the limit is left out from the end, and the kit says so. It is
unpacked there with `tar xf gpu-kit.tar.xz`.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpu_day import CARRIED, ROOT
from gpu_day.direct import PARTS, sources
from gpu_day.record import DayEndedError
from gpu_day.upstream import FILES

LIMIT_MIB = 60.0  # 64 may be carried where this was made for, this project's own tree among it
PACKAGES = ("tiktoken", "regex", "nvidia-ml-py")  # besides torch and numpy, which the machine is expected to have
NAME = "gpu-kit"
MIB = 1 << 20
LIBRARY = "autoresearch-sandbox:cpu-library"  # has what prepares data, for either profile
LIST = "KIT.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What belongs together: files by their places in the kit."""

    name: str
    files: tuple[tuple[Path, str], ...]
    without: str  # what follows where it is left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What was packed."""

    path: Path
    packed: tuple[str, ...]
    left_out: tuple[str, ...]  # with the reason, and what follows from it

    def lines(self) -> list[str]:
        """Everything, for a terminal and for the kit itself."""
        return [
            *(f"packed: {name}" for name in self.packed),
            *(f"left out: {what}" for what in self.left_out),
            f"there: tar xf {self.path.name} && cd {NAME} && make gpu-day MINUTES=25 or python3 -m gpu_day",
        ]


def make(  # noqa: PLR0913
    target: Path,
    scratch: Path,
    *,
    profile: str,
    python: str,
    data: Path | None,
    upstream: Path | None,
    limit_mib: float,
) -> Kit:
    """Pack as much as fits under the limit. Raises DayEndedError where not even the project does."""
    left_out: list[str] = []
    parts = [Part(name="project", files=tuple(project()), without="")]
    if upstream is not None:
        parts.append(Part(name="upstream", files=tuple(checkout(upstream)), without="step (d) is skipped"))
    if reason := install(scratch / "carried", python):
        left_out.append(f"packages {', '.join(PACKAGES)}: {reason}; the other machine must have them")
    else:
        packages = tuple(below(scratch / "carried", CARRIED.name))
        parts.append(
            Part(
                name=f"packages {', '.join(PACKAGES)}, for Python {python}", files=packages, without="it must have them"
            )
        )
    made = data if data is not None and is_prepared(data) else prepare(profile, scratch, data)
    files = tuple(item for part in PARTS for item in below(made / part, f"data/{profile}-python/{part}"))
    without = "it must prepare its own, with rustbpe, which takes minutes"
    parts.append(Part(name=f"data ({profile} profile)", files=files, without=without))
    while True:
        kit = Kit(path=target, packed=tuple(part.name for part in parts), left_out=tuple(left_out))
        pack(kit, parts, scratch)
        if (size := target.stat().st_size) <= limit_mib * MIB:
            return kit
        if len(parts) == 1:
            target.unlink()
            raise DayEndedError(
                f"{target}: the project alone takes {size / MIB:.1f} MiB, the limit is {limit_mib:g}: raise LIMIT_MIB"
            )
        last = parts.pop()
        left_out.append(f"{last.name}: with it {size / MIB:.1f} MiB, above {limit_mib:g}; {last.without}")


def pack(kit: Kit, parts: list[Part], scratch: Path) -> None:
    """Write the archive. Raises DayEndedError where it cannot be written."""
    (scratch / LIST).write_text("\n".join(kit.lines()) + "\n", encoding="utf-8")
    files = [item for part in parts for item in part.files]
    try:
        kit.path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(kit.path, "w:xz", preset=6) as archive:
            for path, place in [*files, (scratch / LIST, LIST)]:
                archive.add(path, f"{NAME}/{place}", recursive=False)
    except OSError as error:
        kit.path.unlink(missing_ok=True)
        raise DayEndedError(f"{kit.path}: {error.strerror}: make room there, or name another file with KIT=") from error


def project() -> Iterator[tuple[Path, str]]:
    """Every file that git has or would take. Raises DayEndedError outside a checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DayEndedError(f"{ROOT}: git lists no files ({done.stderr.strip()}): make the kit in a clone")
    for name in sorted(set(done.stdout.split("\0")) - {""}):
        if (ROOT / name).is_file():
            yield ROOT / name, name


def checkout(upstream: Path) -> Iterator[tuple[Path, str]]:
    """The two scripts of upstream that are run. Raises DayEndedError where one is missing."""
    for name in FILES:
        if not (upstream / name).is_file():
            raise DayEndedError(f"UPSTREAM={upstream} has no {name}: name upstream's checkout")
        yield upstream / name, f"upstream/{name}"


def install(target: Path, python: str) -> str:
    """Packages for another Python, with the hashes of requirements.txt; why not, "" if it worked."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    blocks = [re.search(rf"^{name}==.*?(?<!\\)$", text, re.MULTILINE | re.DOTALL) for name in PACKAGES]
    wanted = target.with_suffix(".txt")
    wanted.write_text("\n".join(block[0] for block in blocks if block) + "\n", encoding="utf-8")
    command = [
        sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-compile",
        "--only-binary=:all:", f"--python-version={python}", "--require-hashes", f"--target={target}",
        f"--requirement={wanted}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return "" if done.returncode == 0 else (errors or done.stderr.splitlines() or ["pip failed"])[-1][:200]


def is_prepared(folder: Path) -> bool:
    """Whether a folder has all parts of prepared data that a day needs."""
    return all((folder / part / "manifest.json").is_file() for part in PARTS)


def prepare(profile: str, scratch: Path, corpus: Path | None) -> Path:
    """Prepare data from the text in `corpus`, or once from this machine's Python sources. Raises DayEndedError.

    For the gpu profile the latter is not what `make prepare-data` makes: nothing has to be kept out of an image, so any
    text can be validation text, and there is more of it.
    """
    made = ROOT / "data" / ("cpu-python" if profile == "cpu" else NAME) if corpus is None else scratch / "data"
    if is_prepared(made):
        return made
    if corpus is None and profile == "cpu":
        raise DayEndedError(f"{made}: holds no prepared data: make prepare-data PROFILE=cpu")
    if shutil.which("docker") is None:
        raise DayEndedError("no docker command to prepare data with: name prepared data with DATA=folder")
    print(f"gpu-kit: preparing data from {corpus or 'the Python sources of this machine'}", flush=True)
    text = corpus or sources(scratch / "corpus", [*map(Path, sys.path), *map(Path, sysconfig.get_paths().values())])
    draft = made.with_name(f"{made.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    mounts = {
        ROOT / "locked": "/locked:ro",
        ROOT / "orchestrator/runtime": "/runtime:ro",
        text.resolve(): "/corpus:ro",
        draft: "/staging",
    }
    command = ["docker", "run", "--rm", "--network=none", f"--user={os.getuid()}:{os.getgid()}"]
    command += [f"--env=AUTORESEARCH_PROFILE={profile}", "--env=PYTHONPATH=/locked:/runtime"]
    command += [*(f"--volume={source}:{place}" for source, place in mounts.items()), LIBRARY]
    command += ["python3", "/locked/make_data.py", "--out=/staging", "--corpus=/corpus"]
    if (code := subprocess.run(command, check=False).returncode) != 0:
        raise DayEndedError(
            f"the data could not be prepared (exit code {code}), see above: make image, or name another DATA=folder, of"
            " text or prepared"
        )
    draft.rename(made)
    return made


def below(folder: Path, place: str) -> Iterator[tuple[Path, str]]:
    """The files of a tree and their places in the kit."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, f"{place}/{path.relative_to(folder)}"


def main() -> None:
    """Pack, and print what is in the kit and what is not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kit", type=Path, default=ROOT / "build" / f"{NAME}.tar.xz", help="the kit")
    parser.add_argument("--profile", choices=["gpu", "cpu"], default="gpu", help="whose data is packed")
    parser.add_argument("--kit-python", default="3.12", help="the Python of the other machine")
    parser.add_argument("--data", type=Path, help="prepared data, or text; default: this machine's Python sources")
    parser.add_argument("--upstream", type=Path, help="a checkout of upstream; two of its files are packed")
    parser.add_argument("--limit-mib", type=float, default=LIMIT_MIB, help="how large the kit may be")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpu-kit-") as scratch:
        try:
            kit = make(
                options.kit.resolve(), Path(scratch), profile=options.profile, python=options.kit_python,
                data=options.data, upstream=options.upstream, limit_mib=options.limit_mib,
            )  # fmt: skip
        except DayEndedError as error:
            sys.exit(f"gpu-kit: {error}")
    size = f"{kit.path}: {kit.path.stat().st_size / MIB:.1f} MiB of {options.limit_mib:g}"
    print("\n".join(f"gpu-kit: {line}" for line in [size, *kit.lines()]))


if __name__ == "__main__":
    main()
