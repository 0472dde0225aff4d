"""Fetches the dataset upstream trains on, on a host with a network, with the standard library only."""

import http.client
import json
import time
import urllib.error
import urllib.request
from pathlib import Path

from prepare import fail, file_sha256

URL = "https://huggingface.co/datasets/karpathy/climbmix-400b-shuffle/resolve/main"
SHARDS = 6543
TRIES = 5
TIMEOUT_S = 30.0
BLOCK_BYTES = 1 << 20
RECORD = "downloads.json"  # name -> bytes and SHA-256 of what was fetched


def download(folder: Path, shards: int, url: str = URL) -> None:
    """Fetch the first `shards` files into `folder`; begins where an earlier call ended."""
    if not 1 <= shards <= SHARDS:
        fail(f"--shards {shards} is out of range: the dataset has 1 to {SHARDS}")
    folder.mkdir(parents=True, exist_ok=True)
    record = _read(folder / RECORD)
    for number in range(shards):
        name = f"shard_{number:05d}.parquet"
        path = folder / name
        if name in record and path.is_file() and path.stat().st_size == record[name]["bytes"]:
            continue
        _fetch(f"{url}/{name}", path)
        record[name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        hidden = folder / f".{RECORD}"
        hidden.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
        hidden.rename(folder / RECORD)
        print(f"{name}: {record[name]['bytes']:,} bytes, {number + 1} of {shards}", flush=True)


def _read(path: Path) -> dict[str, dict[str, int | str]]:
    try:
        return dict(json.loads(path.read_text())) if path.exists() else {}
    except (OSError, ValueError):
        fail(f"{path} cannot be read: remove it, and the download checks every file again")


def _fetch(address: str, path: Path) -> None:
    part = path.with_suffix(".part")
    for attempt in range(TRIES):
        try:
            _fetch_once(address, part)
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
            if isinstance(error, urllib.error.HTTPError) and error.code in {401, 403, 404}:
                fail(f"{address} answers {error.code}: check the address and your access")
            if attempt + 1 == TRIES:
                fail(f"{address} failed {TRIES} times ({error}): check the network and run the same command again")
            time.sleep(2.0**attempt)
        else:
            part.rename(path)
            return


def _fetch_once(address: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
        continued = answer.status == http.client.PARTIAL_CONTENT
        expected = answer.headers.get("Content-Length")
        got = 0
        with part.open("ab" if continued else "wb") as file:
            while block := answer.read(BLOCK_BYTES):
                file.write(block)
                got += len(block)
        if expected is not None and got != int(expected):
            raise OSError(f"{got} of {expected} bytes came")
