"""The provenance of a kept experiment, as an in-toto Statement v1 with a SLSA provenance v1 predicate.

Unsigned, and no SLSA level is claimed: the orchestrator's host is trusted, and nothing here proves which one it was.
"""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator import __version__
from orchestrator.errors import JournalError
from orchestrator.events import ExperimentBegun, ExperimentFinished
from orchestrator.record.experiment_dir import parent_path, source_path
from orchestrator.record.journal import Journal
from orchestrator.record.record_file import Recorded
from orchestrator.types import Experiment, Status

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:autoresearch-sandbox:experiment:v1"
BUILDER = "urn:autoresearch-sandbox:orchestrator"
SETTINGS = ("profile", "runtime", "default_runtime", "tier", "engine", "kernel", "driver", "hardware", "gpu_uuid")


def statement(journal: Journal, experiment: Experiment) -> dict[str, Any]:
    """Build the statement about a kept experiment. Raises JournalError for any other."""
    if experiment.status is not Status.KEEP:
        raise JournalError(
            f"experiment {experiment.id} was not kept ({experiment.status}): only kept ones are attested"
        )
    begun = journal.events(ExperimentBegun, experiment.id)[0]
    finished = journal.events(ExperimentFinished, experiment.id)[0]
    return {
        "_type": STATEMENT,
        "subject": _subject(experiment, finished.event),
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": _definition(experiment, begun.event),
            "runDetails": _details(journal, experiment, begun, finished),
        },
    }


def _subject(experiment: Experiment, finished: ExperimentFinished) -> list[dict[str, Any]]:
    """List the outputs of the experiment: the kept file, and the checkpoint that was scored."""
    subject: list[dict[str, Any]] = [
        {"name": source_path(experiment.folder).name, "digest": {"sha256": experiment.source_sha256}}
    ]
    if finished.checkpoint_sha256:
        subject.append({"name": "checkpoint", "digest": {"sha256": finished.checkpoint_sha256}})
    return subject


def _definition(experiment: Experiment, begun: ExperimentBegun) -> dict[str, Any]:
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "hypothesis": experiment.hypothesis,
            "proposer": experiment.proposer,
            "model": experiment.model,
            "parent_experiment": experiment.parent_id,
            "patch_sha256": begun.files.get("patch.diff", ""),
            "train_seed": begun.seeds.train_seed,
        },
        "internalParameters": {name: value for name in SETTINGS if (value := getattr(begun.environment, name))},
        "resolvedDependencies": _dependencies(begun, experiment.folder),
    }


def _dependencies(begun: ExperimentBegun, folder: Path) -> list[dict[str, Any]]:
    """List the image, the parent's file, the profile, and every locked file and part of the data by its hash."""
    found = [
        ("image", begun.environment.image_id.removeprefix("sha256:")),
        (f"parent/{source_path(folder).name}", begun.files.get(parent_path(folder).name, "")),
        ("seccomp.json", begun.environment.seccomp_sha256),
        ("locked", begun.environment.locked_sha256),
        ("data", begun.environment.data_sha256),
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


def _details(
    journal: Journal, experiment: Experiment, begun: Recorded[ExperimentBegun], finished: Recorded[ExperimentFinished]
) -> dict[str, Any]:
    ended = datetime.fromisoformat(experiment.started_at) + timedelta(seconds=experiment.duration_s)
    return {
        "builder": {"id": BUILDER, "version": {"autoresearch-sandbox": __version__}},
        "metadata": {
            "invocationId": f"{journal.folder.name}/{experiment.id}/{begun.hash}",
            "startedOn": _timestamp(datetime.fromisoformat(experiment.started_at)),
            "finishedOn": _timestamp(ended),
        },
        "byproducts": [
            {"name": "record", "digest": {"sha256": finished.hash}, "annotations": _score(journal, experiment)},
            *({"name": n, "digest": {"sha256": v}} for n, v in sorted(finished.event.files.items())),
        ],
    }


def _score(journal: Journal, experiment: Experiment) -> dict[str, Any]:
    score = experiment.score
    facts = {"reason": experiment.reason, "commit": experiment.commit, journal.metric(): experiment.value}
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
