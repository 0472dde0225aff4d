"""What `autoresearch show` prints of an experiment, on a narrow terminal."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.events import ExperimentFinished
from orchestrator.look import show
from orchestrator.record.journal import Journal
from orchestrator.types import ExecutionResult, Level, Role, Score
from tests.support import fakes
from tests.support.journals import finish, kept

WIDTH = 80


def seen(shown: Any) -> list[str]:  # whatever rich prints
    """Its lines, as wide as an old terminal."""
    console = Console(width=WIDTH)
    with console.capture() as capture:
        console.print(shown)
    return [line.rstrip() for line in capture.get().splitlines()]


def ended(role: Role, number: str, **changes: object) -> ExecutionResult:
    """Return an execution as the record has it."""
    values = {"container_id": number, "peak_memory_bytes": 306 << 20, "cpu_s": 37.62, "deadline_s": 203.0}
    return fakes.execution(role, **values | changes)


def table(folder: Path, *executions: ExecutionResult) -> Any:  # whatever rich prints
    """Return the containers of an experiment in a folder."""
    experiment = kept(2.0, folder=folder)
    finished = ExperimentFinished(experiment=experiment, executions=executions)
    return show.containers_table(show.read_containers(experiment, finished))


def make(folder: Path, role: Role, number: str, **walls: object) -> None:
    """What the engine said of a container."""
    folder.mkdir(exist_ok=True)
    host = {
        "NetworkMode": "none", "ReadonlyRootfs": True, "CapDrop": ["ALL"], "Memory": 4 << 30, "MemorySwap": 4 << 30,
        **walls,
    }  # fmt: skip
    created = {"Id": number, "Image": "sha256:b35cc921cbfd99", "Config": {"User": "65532:65532"}, "HostConfig": host}
    (folder / f"{role}.created.json").write_text(json.dumps(created))


def test_what_all_containers_have_is_said_once(tmp_path: Path) -> None:
    """Then a line for each, none of them broken; one that the host ended after its claims was not killed."""
    for number, role in enumerate((Role.TRAINER, Role.PREDICTOR_A, Role.PREDICTOR_B)):
        make(tmp_path, role, str(number))
    found = [
        ended(Role.TRAINER, "0"),
        ended(Role.PREDICTOR_A, "1", exit_code=None, killed_by="its claims are in"),
        ended(Role.PREDICTOR_B, "2", exit_code=None, killed_by="the score is in"),
    ]

    assert [
        "each: image b35cc921cbfd, user 65532:65532, network none, root file system",
        "read-only, capabilities none, memory 4096 MiB",
        "role         peak MiB  cpu s      seconds  ended",
        "trainer           306   37.6  20.0 of 203  exit code 0",
        "predictor-a       306   37.6  20.0 of 203  ended by the host: its claims are in",
        "predictor-b       306   37.6  20.0 of 203  ended by the host: the score is in",
    ] == seen(table(tmp_path, *found))


def test_a_container_that_is_not_like_the_others_is_named(tmp_path: Path) -> None:
    """With what it has; so is one of which the record has lost the walls."""
    make(tmp_path, Role.TRAINER, "0", NetworkMode="host")
    make(tmp_path, Role.PREDICTOR_A, "1")
    make(tmp_path, Role.SCORER, "2", Memory=1 << 30, MemorySwap=1 << 30)
    roles = (Role.TRAINER, Role.PREDICTOR_A, Role.SCORER, Role.PREDICTOR_B)
    found = [ended(role, str(number)) for number, role in enumerate(roles)]
    text = " ".join(" ".join(seen(table(tmp_path, *found))).split())

    assert "each: image b35cc921cbfd, user 65532:65532, network none, root file system read-only" in text
    assert "exit code 0; NETWORK host" in text
    assert "exit code 0; memory 1024 MiB" in text
    assert "exit code 0; walls not on" in text
    assert "trial not on record" in text


def test_what_ran_is_shown_though_its_folder_was_removed(tmp_path: Path) -> None:
    """The journal still knows how each container ended."""
    lines = seen(table(tmp_path / "removed", ended(Role.TRAINER, "0")))

    assert ["each: walls not on record", "trial not on record"] == [lines[0], lines[2]]
    assert "exit code 0" in lines[3]


def test_a_wall_that_all_containers_lack_is_named(tmp_path: Path) -> None:
    """In capitals, for a screen without colours."""
    for number, role in enumerate((Role.TRAINER, Role.SCORER)):
        make(tmp_path, role, str(number), ReadonlyRootfs=False, MemorySwap=-1)
    text = " ".join(seen(table(tmp_path, ended(Role.TRAINER, "0"), ended(Role.SCORER, "1"))))

    assert "ROOT FILE SYSTEM WRITABLE" in text
    assert "MEMORY 4096 MiB and SWAP" in text


def test_each_trial_of_an_experiment_has_a_line_above_its_containers(tmp_path: Path) -> None:
    """The first one has its files in the folder itself, the others in folders of their own; `again` in old records."""
    make(tmp_path, Role.TRAINER, "0")
    make(tmp_path / "trial-2", Role.TRAINER, "1")
    make(tmp_path / "again", Role.TRAINER, "2")
    found = [ended(Role.TRAINER, str(number)) for number in range(3)]
    starts = [line.split("  ")[0] for line in seen(table(tmp_path, *found))[3:]]

    assert ["first trial", "trainer", "again", "trainer", "trial-2", "trainer"] == starts


def test_a_score_s_parts_are_lines_of_their_own(tmp_path: Path) -> None:
    """The number with its trials, the audit with what it may have missed, and how far trials of one source differ."""
    score = Score(
        value=2.12, level=Level.L2, standard_error=1.6e-9, audited_positions=4096, undetectable=6.5e-3,
        claims_sha256="ab" * 32, audit_seed="cd" * 32,
    )  # fmt: skip
    lines = shown(tmp_path, score, repeat_scores=(2.13, 2.11))

    assert "value     2.120000 (mean of 2.130000, 2.110000)" in lines
    assert "audit     L2, 4,096 positions; undetected at most 6.5e-03" in lines
    assert "claims    abababababababab, audit seed cdcdcdcdcdcdcdcd; standard error 1.6e-09" in lines
    assert "noise     0.014142 between single trials of one source (1 sigma)" in lines


def test_a_number_that_nobody_audited_is_called_so(tmp_path: Path) -> None:
    """And a noise that nobody has measured."""
    lines = shown(tmp_path, Score(value=2.12, level=Level.L0))

    assert "value     2.120000" in lines
    assert "audit     L0: none, the number is self-reported" in lines
    assert "noise     not known yet" in lines


def shown(folder: Path, score: Score, **changes: object) -> list[str]:
    """The lines on a baseline with this score."""
    with Journal.open(folder) as journal:
        (folder / "0000").mkdir()
        finish(journal, kept(0.0, score=score, **changes))
        console = Console(width=WIDTH)
        with console.capture() as capture:
            show.show_experiment(console, journal, journal.experiment(0))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_containers_are_told_in_whole_words_where_there_is_little_room(tmp_path: Path) -> None:
    """Not in a column of single characters: each in lines that wrap."""
    make(tmp_path, Role.TRAINER, "0")
    found = ended(Role.TRAINER, "0", exit_code=None, killed_by="the loss was not a number")
    finished = ExperimentFinished(experiment=kept(2.0, folder=tmp_path), executions=(found,))
    console = Console(width=40)
    with console.capture() as capture:
        containers = show.read_containers(finished.experiment, finished)
        console.print(show.containers_table(containers, narrow=True))
    lines = [line.rstrip() for line in capture.get().splitlines()]

    assert max(map(len, lines)) <= 40
    said = " ".join(" ".join(lines).split())
    assert "trainer 20.0 of 203 s, 306 MiB, 37.6 s of cpu, ended by the host: the loss was not a number" in said


def test_nothing_is_said_of_an_audit_that_there_was_not() -> None:
    """As where locked code reads a text; the seed of a trial is told by itself."""
    score = Score(value=50.0, level=Level.L1)

    assert ("L1: none", "-") == (show._audit(score), show._claims(score))
    assert "audit seed ab; standard error 1.0e-02" == show._claims(replace(score, audit_seed="ab", standard_error=0.01))
