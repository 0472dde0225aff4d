"""The loop of a script that scores itself: run it, read what it prints, keep what is lower than the lowest so far."""

import re
import subprocess
import sys
from pathlib import Path

from common import Report, candidates, work


def main() -> None:
    """Run every candidate once."""
    report, lowest = Report(), float("inf")
    for name, source in candidates():
        report.begin(name)
        script = Path(work(), "train.py")
        script.write_text(source, encoding="utf-8")
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
        found = re.findall(r"(?m)^val_rmse: +(\S+)$", done.stdout)
        score = float(found[-1]) if done.returncode == 0 and found else None
        kept = score is not None and score < lowest
        lowest = min(lowest, score) if score is not None else lowest
        report.end(name, score, kept=kept)
    report.finish()


if __name__ == "__main__":
    main()
