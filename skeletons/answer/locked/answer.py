"""The harness of both programs, the candidate and the reference: answers the scorer's questions, one after the other.

With the candidate's code in it this process is untrusted: an answer is no more than a claim, which the scorer checks.
"""

import importlib.util
import sys
from pathlib import Path

import frames

FOREVER = float("inf")  # the guard and the host end this container in time


def main() -> None:
    """Answer until the host ends this container; the argument is the program's path, a second one another root."""
    root = Path(sys.argv[2] if sys.argv[2:] else "/")
    asks, answers = root / "ask", root / "answer"
    frames.wait(asks, "0.ask", until=FOREVER, poll_s=frames.WAITING_POLL_S)
    spec = importlib.util.spec_from_file_location("subject", sys.argv[1])
    if spec is None or spec.loader is None:
        sys.exit(f"error: {sys.argv[1]}: cannot be imported")
    subject = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(subject)
    number = 0
    while True:
        frames.wait(asks, f"{number}.ask", until=FOREVER)
        asked = (asks / f"{number}.ask").read_bytes()
        numbers = [int.from_bytes(asked[at : at + 4], "little") for at in range(0, len(asked), 4)]
        found = subject.answer(numbers)
        frames.write(answers, f"{number}.answer", b"".join(int(one).to_bytes(4, "little") for one in found))
        number += 1


if __name__ == "__main__":
    main()
