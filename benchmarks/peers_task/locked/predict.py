"""The predictor's harness: answers the scorer's questions with the candidate's own load_model."""

import array
import sys
from pathlib import Path

import frames
import harness

ASK, ANSWER, OUT = Path("/ask"), Path("/answer"), Path("/out")
FOREVER = float("inf")  # the guard and the host end this container in time


def main() -> None:
    """Answer questions one after the other until the host ends this container."""
    frames.wait(ASK, "begin", until=FOREVER, poll_s=frames.WAITING_POLL_S)
    import prepare

    frames.wait(ASK, "hash", until=FOREVER)
    frames.write(ANSWER, "hello", harness.checkpoint_digest(OUT))
    frames.wait(ASK, "0.ask", until=FOREVER)
    if not prepare.CHECKPOINT.is_file():
        sys.exit(f"error: no checkpoint: train.py must write {prepare.CHECKPOINT} before its time is up")
    model = harness.load_candidate().load_model(str(prepare.CHECKPOINT), "cpu")
    number = 0
    while True:
        frames.wait(ASK, f"{number}.ask", until=FOREVER)
        asked = array.array("d", (ASK / f"{number}.ask").read_bytes())
        frames.write(ANSWER, f"{number}.answer", array.array("d", map(float, model(list(asked)))).tobytes())
        number += 1


if __name__ == "__main__":
    main()
