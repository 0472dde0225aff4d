"""The predictor's harness: answers the scorer's questions with the candidate's own load_model.

As untrusted as the trainer from the moment train.py is imported, at the first question. It gets features, never sizes.
"""

import os
import sys
from pathlib import Path

import frames
import harness

ASK, ANSWER, OUT = Path("/ask"), Path("/answer"), Path("/out")
FOREVER = float("inf")  # the guard and the host end this container in time


def main() -> None:
    """Answer questions one after the other until the host ends this container."""
    frames.wait(ASK, "begin", until=FOREVER, poll_s=frames.WAITING_POLL_S)
    import numpy as np
    import prepare
    import torch

    frames.wait(ASK, "hash", until=FOREVER)
    frames.write(ANSWER, "hello", harness.checkpoint_digest(OUT))

    device = "cuda" if os.environ.get("AUTORESEARCH_PROFILE") == "gpu" and torch.cuda.is_available() else "cpu"
    frames.wait(ASK, "0.ask", until=FOREVER)
    if not prepare.CHECKPOINT.is_file():
        sys.exit(f"error: no checkpoint: train.py must write {prepare.CHECKPOINT} before its time is up")
    model = harness.load_candidate().load_model(str(prepare.CHECKPOINT), device)
    number = 0
    while True:
        frames.wait(ASK, f"{number}.ask", until=FOREVER)
        asked = np.frombuffer((ASK / f"{number}.ask").read_bytes(), "<f4").reshape(-1, len(prepare.FEATURES))
        with torch.no_grad():
            answer = model(torch.from_numpy(asked.copy()).to(device))
        if not isinstance(answer, torch.Tensor) or tuple(answer.shape) != (len(asked),):
            got = f"{type(answer).__name__} {list(getattr(answer, 'shape', []))}"
            sys.exit(f"error: load_model(...)(features) must return a tensor [{len(asked)}], got {got}")
        frames.write(ANSWER, f"{number}.answer", answer.float().cpu().numpy().astype("<f4").tobytes())
        number += 1


if __name__ == "__main__":
    main()
