"""Make the data: `make_data.py --out /staging`."""

import argparse
import hashlib
import json
from pathlib import Path

import prepare


def main() -> None:
    """Write train, val and holdout."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpus", default="python")
    out = parser.parse_args().out
    for side in prepare.SIDES:
        data = json.dumps(prepare.make(side)).encode()
        (out / side).mkdir()
        (out / side / "points.json").write_bytes(data)
        files = {"points.json": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}}
        (out / side / "manifest.json").write_text(json.dumps({"files": files}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
