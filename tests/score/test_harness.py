"""What a predictor does before it runs untrusted code."""

import time
from pathlib import Path

import harness
import predict
import pytest


def test_a_folder_that_cannot_be_listed_has_no_hash(tmp_path: Path) -> None:
    """Its files could be read by their names; the message says what to do."""
    with pytest.raises(SystemExit, match=r"hidden cannot be listed .*: leave no such folder there"):
        harness.checkpoint_digest(tmp_path / "hidden")


def test_what_the_training_wrote_at_once_is_fresh(tmp_path: Path) -> None:
    """However late the predictor comes to look; what is older than its container is not."""
    now = time.time()
    assert predict.is_fresh(tmp_path, now)
    (tmp_path / "checkpoint.pt").write_bytes(b"weights")

    assert predict.is_fresh(tmp_path, now)
    assert not predict.is_fresh(tmp_path, now + 60)
