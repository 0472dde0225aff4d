"""What a kept experiment was made from, as an in-toto Statement v1 with a SLSA provenance v1 predicate.

Unsigned, and no SLSA level is claimed: the orchestrator's host is trusted, and nothing here proves which one it was.
"""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator import __version__
from orchestrator.errors import JournalError
from orchestrator.record.chain import Record
from orchestrator.record.journal import Journal
from orchestrator.types import Experiment, Status

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:autoresearch-sandbox:experiment:v1"
BUILDER = "urn:autoresearch-sandbox:orchestrator"
SETTINGS = ("profile", "runtime", "default_runtime", "tier", "engine", "kernel", "driver", "hardware", "gpu_uuid")


def statement(journal: Journal, experiment: Experiment) -> dict[str, Any]:
    """The statement about a kept experiment. Raises JournalError for any other."""
    if experiment.status is not Status.KEEP:
        raise JournalError(
            f"experiment {experiment.id} was not kept ({experiment.status}): only kept ones are attested"
        )
    begun = journal.records("experiment.begun", experiment.id)[0]
    finished = journal.records("experiment.finished", experiment.id)[0]
    return {
        "_type": STATEMENT,
        "subject": _subject(experiment, finished.body),
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": _definition(experiment, begun.body, experiment.folder),
            "runDetails": _details(journal, experiment, begun, finished),
        },
    }


def _subject(experiment: Experiment, finished: dict[str, Any]) -> list[dict[str, Any]]:
    """What the experiment made: the kept train.py, and the checkpoint that was scored."""
    subject: list[dict[str, Any]] = [{"name": "train.py", "digest": {"sha256": experiment.source_sha256}}]
    if finished.get("checkpoint_sha256"):
        subject.append({"name": "checkpoint", "digest": {"sha256": finished["checkpoint_sha256"]}})
    return subject


def _definition(experiment: Experiment, begun: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "hypothesis": experiment.hypothesis,
            "proposer": experiment.proposer,
            "model": experiment.model,
            "parent_experiment": experiment.parent_id,
            "patch_sha256": begun["files"].get("patch.diff", ""),
            "train_seed": begun["train_seed"],
        },
        "internalParameters": {name: begun[name] for name in SETTINGS if begun.get(name)},
        "resolvedDependencies": _dependencies(begun, folder),
    }


def _dependencies(begun: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The image, the parent's train.py, the profile, and every locked file and part of the data by its hash."""
    found = [
        ("image", begun.get("image_id", "").removeprefix("sha256:")),
        ("parent/train.py", begun["files"].get("parent.py", "")),
        ("seccomp.json", begun.get("seccomp_sha256", "")),
        ("locked", begun.get("locked_sha256", "")),
        ("data", begun.get("data_sha256", "")),
    ]
    inputs = _inputs(folder / "inputs.json")
    scorer = inputs.get("copies", {}).get("scorer", {})
    found += sorted(scorer.items())
    found += [(f"data/{part}/manifest.json", value) for part, value in sorted(inputs.get("data", {}).items())]
    return [{"name": name, "digest": {"sha256": value}} for name, value in found if value]


def _inputs(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise JournalError(f"{path}: cannot be read: {error}; see `autoresearch verify`") from error
    return data if isinstance(data, dict) else {}


def _details(journal: Journal, experiment: Experiment, begun: Record, finished: Record) -> dict[str, Any]:
    ended = datetime.fromisoformat(experiment.started_at) + timedelta(seconds=experiment.duration_s)
    return {
        "builder": {"id": BUILDER, "version": {"autoresearch-sandbox": __version__}},
        "metadata": {
            "invocationId": f"{journal.folder.name}/{experiment.id}/{begun.hash}",
            "startedOn": _timestamp(datetime.fromisoformat(experiment.started_at)),
            "finishedOn": _timestamp(ended),
        },
        "byproducts": [
            {"name": "record", "digest": {"sha256": finished.hash}, "annotations": _score(experiment)},
            *({"name": n, "digest": {"sha256": v}} for n, v in sorted(finished.body["files"].items())),
        ],
    }


def _score(experiment: Experiment) -> dict[str, Any]:
    score = experiment.score
    facts = {"rule": experiment.reason, "commit": experiment.commit, "val_bpb": experiment.value}
    if score is not None:
        facts |= {
            "level": score.level.value,
            "standard_error": score.standard_error,
            "audited_positions": score.audited_positions,
            "claims_sha256": score.claims_sha256,
            "audit_seed": score.audit_seed,
        }
    return facts


def _timestamp(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
