"""Which proposer a run gets when nobody names one."""

from pathlib import Path

import pytest

from orchestrator import propose
from tests.propose.test_night import task
from tests.support.fake_messages_api import KEY, FakeMessagesApi

WITH_KEY = {"ANTHROPIC_API_KEY": KEY}


@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        ({}, {}, "sweep"),
        ({}, WITH_KEY, "claude"),
        ({"claude.key_file": "key"}, {}, "claude"),
        ({"api_key": KEY}, {}, "claude"),
        ({"replay_of": "runs/t"}, WITH_KEY, "replay"),
        ({"proposer": "sweep"}, WITH_KEY, "sweep"),
    ],
)
def test_what_was_given_decides(
    tmp_path: Path, flags: dict[str, object], environment: dict[str, str], expected: str
) -> None:
    """The one that is named, else what the run to replay or the key is for, else what needs neither."""
    with FakeMessagesApi() as api:
        config = task(tmp_path, api, **({"proposer": None} | flags))

    assert expected == propose.choose_proposer(config, environment).proposer


def test_a_variable_names_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key beside it changes nothing."""
    monkeypatch.setenv("AUTORESEARCH_PROPOSER", "sweep")
    with FakeMessagesApi() as api:
        config = task(tmp_path, api, proposer=None)

    assert "sweep" == propose.choose_proposer(config, WITH_KEY).proposer
