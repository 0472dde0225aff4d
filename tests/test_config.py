"""task.toml, variables and flags: what is wrong is said in one line that names where it was said."""

from pathlib import Path

import pytest

from orchestrator.config import SUCCESSORS, load
from orchestrator.errors import ConfigError

ROOT = Path(__file__).parent.parent
TASK_TOML = (ROOT / "task.toml").read_text(encoding="utf-8")


def refused(folder: Path, text: str, **flags: object) -> str:
    """The one line that a task.toml with this text is refused with."""
    (folder / "task.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refusal:
        load(folder, {"tag": "t", "runs": folder / "runs", **flags})
    line = str(refusal.value)

    assert 1 == len(line.splitlines())
    return line.replace(str(folder), "")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("experiments = 100", "experiments = -1", "/task.toml: limits.experiments = -1: "),
        ("max_usd = 10.0", "max_usd = nan", "/task.toml: limits.max_usd = nan: "),
        ("hours = 0.0", "hour = 0.0", "/task.toml: unknown key 'limits.hour'"),
        ("grace_s = 2.0", "", "/task.toml: key 'profile.cpu.grace_s' is missing"),
        ("[noise]", "[loudness]", "/task.toml: unknown key 'loudness'"),
        ('metric = "val_bpb"', 'metric = "reason"', "'reason' is the name of another column"),
        ('metric = "val_bpb"', 'metric = "val bpb"', "/task.toml: task.metric = 'val bpb': "),
        ('["tokenizer"]', '["val"]', "/task.toml: task.shared_data = ['val']: 'val' is not for every container; leave"),
        (
            '["tokenizer"]',
            '["a/b"]',
            "/task.toml: task.shared_data = ['a/b']: 'a/b' must be the name of a folder: 1-40",
        ),
        ('["tokenizer"]', '["a", "a"]', "/task.toml: task.shared_data = ['a', 'a']: 'a' is there twice; remove one"),
        ("pattern = '", "pattern = '(", "is no regular expression"),
        ("[limits]", "[limits", "/task.toml: cannot be read: "),
    ],
)
def test_the_file_the_key_and_the_value_are_named(tmp_path: Path, before: str, after: str, expected: str) -> None:
    """One change each to the task.toml that is shipped."""
    assert before in TASK_TOML
    assert expected in refused(tmp_path, TASK_TOML.replace(before, after, 1))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (
            "claim_hours = 2.0",
            "again_every = 20",
            "noise.again_every is gone: gains are shown by duels, within noise.claim_hours; remove it",
        ),
        ("max_extra_wait_share", "others", "contention.others is gone: how much longer than usual a training may wait"),
        (
            "max_extra_wait_share",
            "max_foreign_cpu_share",
            "contention.max_foreign_cpu_share is gone: how much longer than usual a training may wait is now",
        ),
        ("reserve_gpus", "leave_free", "gpu.leave_free is now called gpu.reserve_gpus"),
        ("max_attempts = 3", "tries = 3", "claude.tries is now called claude.max_attempts"),
        ("stagnation_after = 8", "drought = 8", "claude.drought is now called claude.stagnation_after"),
        ("stagnation_after = 20", "drought = 20", "notify.drought is now called notify.stagnation_after"),
        ("[noise]", "[prices]\ndated = 'x'\n[noise]", "prices.dated is now called prices.prices_as_of"),
        ("load_budget_s = 3.0", "load_s = 3.0", "profile.cpu.load_s is now called profile.cpu.load_budget_s"),
        ("load_budget_s = 15.0", "load_s = 15.0", "profile.gpu.load_s is now called profile.gpu.load_budget_s"),
        ("ipc_mb = 64", "frames_mb = 64", "profile.cpu.frames_mb is now called profile.cpu.ipc_mb"),
        ("ipc_mb = 512", "frames_mb = 512", "profile.gpu.frames_mb is now called profile.gpu.ipc_mb"),
        ("audit_cap = 0.01 ", "cap_nats = 0.01 ", "profile.cpu.cap_nats is now called profile.cpu.audit_cap"),
        ("audit_floor = 0.0002 ", "floor_nats = 1 ", "profile.cpu.floor_nats is now called profile.cpu.audit_floor"),
        ("audit_cap = 0.5", "cap_nats = 0.5", "profile.gpu.cap_nats is now called profile.gpu.audit_cap"),
        ("audit_floor = 0.002\n", "floor_nats = 1\n", "profile.gpu.floor_nats is now called profile.gpu.audit_floor"),
        ("[recording]", "[record]", "record is now called recording"),
        ("[task]", "accept = ['limits']\n[task]", "accept is now called accept_risk"),
        ("[task]", "trust = 'audited'\n[task]", "trust is now called scoring"),
        ('"stagnation"', '"drought"', "notify.on.1 = 'drought' is now called 'stagnation'; rename it"),
    ],
)
def test_an_earlier_name_is_refused_with_the_one_it_has_now(
    tmp_path: Path, before: str, after: str, expected: str
) -> None:
    """Also where the new key is thereby missing."""
    assert before in TASK_TOML
    assert refused(tmp_path, TASK_TOML.replace(before, after, 1)).startswith(f"/task.toml: {expected}")


def test_each_successor_is_a_key_of_today() -> None:
    """No advice leads to a key that there is not; every renamed key has one."""
    config = load(ROOT, {"tag": "t", "runs": ROOT / "runs"}).model_dump()
    for key in SUCCESSORS.values():
        value = config
        for part in key.split("."):
            assert part in value, key
            value = value[part]


def test_a_flag_and_a_variable_are_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks for a mistake in task.toml that was typed elsewhere."""
    assert refused(tmp_path, TASK_TOML, **{"limits.hours": -1}).startswith("--hours -1: ")
    monkeypatch.setenv("AUTORESEARCH_LIMITS__HOURS", "long")

    assert refused(tmp_path, TASK_TOML).startswith("AUTORESEARCH_LIMITS__HOURS: limits.hours = 'long'")
    monkeypatch.setenv("AUTORESEARCH_ACCEPT", '["limits"]')

    assert "AUTORESEARCH_ACCEPT is now called AUTORESEARCH_ACCEPT_RISK; rename it" == refused(tmp_path, TASK_TOML)


def test_a_flag_wins_over_a_variable_and_that_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what neither names stays as the file says."""
    (tmp_path / "task.toml").write_text(TASK_TOML, encoding="utf-8")
    monkeypatch.setenv("AUTORESEARCH_LIMITS__HOURS", "2")
    monkeypatch.setenv("AUTORESEARCH_LIMITS__MAX_USD", "3")
    config = load(tmp_path, {"tag": "t", "runs": tmp_path / "runs", "limits.hours": 1})

    assert (1.0, 3.0, 100) == (config.limits.hours, config.limits.max_usd, config.limits.experiments)


def test_a_folder_without_a_task_says_so(tmp_path: Path) -> None:
    """The folder is named, and what to do."""
    with pytest.raises(ConfigError, match=r"task\.toml: no such file; run this in a task directory"):
        load(tmp_path, {})
