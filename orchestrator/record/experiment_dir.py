"""The folder of an experiment, and the run's results.tsv: files for people, written once, private to their owner."""

import csv
import difflib
import hashlib
import io
import shutil
from collections.abc import Iterable
from pathlib import Path

from orchestrator.files import explain_write_error, write
from orchestrator.record.record_file import canonical
from orchestrator.types import Candidate, Experiment, Status
from orchestrator.units import GIB

RESULTS = "results.tsv"


def make_folder(path: Path) -> None:
    """Create a folder that only its owner can read; raises RecordFailed."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise explain_write_error(path, error) from error


def source_path(folder: Path) -> Path:
    """Return where the folder of an experiment has its candidate: train.py, or source.md of a task of texts."""
    return next(folder.glob("source.*"), folder / "train.py")


def parent_path(folder: Path) -> Path:
    """Return where the folder of an experiment has what its candidate was made from."""
    return next(folder.glob("parent.*"), folder / "parent.py")


def source_name(suffix: str) -> str:
    """Return the name of a candidate in the folder of its experiment."""
    return "train.py" if suffix == ".py" else f"source{suffix}"


def diff_of(candidate: Candidate) -> str:
    """Return the patch as a unified diff against the parent; "" for the baseline."""
    before, after = (text.splitlines(keepends=True) for text in (candidate.parent_source, candidate.source))
    name = source_name(candidate.suffix)
    return format_diff(before, after, f"a/{name}", f"b/{name}")


def format_diff(before: list[str], after: list[str], old: str, new: str) -> str:
    """Build a unified diff that `patch` applies, of texts whose last line may lack its end."""
    lines = difflib.unified_diff(before, after, old, new)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def write_candidate(folder: Path, candidate: Candidate) -> None:
    """Write the candidate and its origin, before it runs."""
    write(folder / source_name(candidate.suffix), candidate.source)
    write(folder / f"parent{candidate.suffix}", candidate.parent_source)
    write(folder / "patch.diff", diff_of(candidate))
    write(folder / "prompt.txt", candidate.reply.prompt)
    write(folder / "reply.txt", candidate.reply.text)
    proposal = candidate.proposal
    write(
        folder / "proposal.json",
        canonical(
            {
                "hypothesis": proposal.hypothesis,
                "expected_effect": proposal.expected_effect,
                "edits": [{"search": edit.search, "replace": edit.replace} for edit in proposal.edits],
                "whole_file": proposal.source is not None,
                "notes": candidate.patch_notes,
                "proposer": candidate.reply.proposer,
                "model": candidate.reply.model,
            }
        ),
    )


def drop_private(folder: Path) -> None:
    """Remove the containers' copies that a killed session left."""
    for path in folder.rglob(".private-*"):
        shutil.rmtree(path, ignore_errors=True)


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every plain file in the folder and below, by its path there; verify compares with it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def write_results(folder: Path, experiments: Iterable[Experiment], metric: str) -> None:
    """Write results.tsv with all experiments so far."""
    write(folder / RESULTS, results(experiments, metric))


def results(experiments: Iterable[Experiment], metric: str) -> str:
    """Build results.tsv in upstream's five columns, one under the metric's name; a missing number stays empty."""
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, escapechar="\\")
    table.writerow(["commit", metric, "memory_gb", "status", "description"])
    for experiment in experiments:
        status = experiment.status if experiment.status in (Status.KEEP, Status.DISCARD) else Status.CRASH
        memory = experiment.peak_memory_bytes
        table.writerow(
            [
                experiment.commit[:7],
                "" if experiment.value is None else f"{experiment.value:.6f}",
                "" if memory is None else f"{memory / GIB:.1f}",
                status.value,
                " ".join(f"{experiment.hypothesis}{experiment.trust_suffix}".split()),
            ]
        )
    return text.getvalue()
