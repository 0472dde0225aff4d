"""Writes what the benchmarks measured into docs/performance.md.

    make bench-report                               # python -m benchmarks.report

The results of build/bench are copied to benchmarks/results, which is committed; the part of docs/performance.md between
its two marks is made of them, and of nothing else.
"""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.__main__ import BUILD, NAMES, ROOT, describe

RESULTS = Path(__file__).parent / "results"
DOCS = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- make bench-report writes this part: generated, not typed -->", "<!-- the end of it -->"
Result = Mapping[str, Any]


def load_results(folder: Path = RESULTS) -> list[Result]:
    """Return every stored result, by name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def render(results: Iterable[Result]) -> str:
    """Return the part of the documentation that is generated: each benchmark with all that it printed."""
    parts = [
        f"### {result['name']}\n\n{describe(NAMES[result['name']])}\n\n"
        f"`{result['command']}`, {result['date']}, {result['machine']}, load {result['load']} at its begin:\n\n"
        + "\n".join(f"    {line}".rstrip() for line in result["lines"])
        for result in results
    ]
    return "\n\n".join(parts) or "No benchmark has been stored yet."


def insert(text: str, part: str) -> str:
    """Return the documentation with another generated part. Raises ValueError if its marks are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCS.name}: the marks {BEGIN!r} and {END!r} are missing; put them back")
    return f"{before}{BEGIN}\n{part}\n{END}{after}"


def main() -> int:
    """Copy new results, and write the documentation."""
    RESULTS.mkdir(exist_ok=True)
    for path in BUILD.glob("*.json"):
        if path.stem in NAMES and "lines" in json.loads(path.read_text(encoding="utf-8")):
            shutil.copy(path, RESULTS / path.name)
    DOCS.write_text(insert(DOCS.read_text(encoding="utf-8"), render(load_results())), encoding="utf-8")
    print(f"bench-report: {len(load_results())} results in docs/performance.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
