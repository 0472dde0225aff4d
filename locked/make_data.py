"""Make the data of the language-model task; `autoresearch data` runs this once, in a container without network.

    python3 /locked/make_data.py --out /staging --corpus python     # the Python library sources in this image
    python3 /locked/make_data.py --out /staging --corpus /corpus    # a folder of .txt, .jsonl or .parquet files

On a host with a network `python3 locked/make_data.py --download climbmix --to DIR` fetches the upstream dataset.
"""

import argparse
from pathlib import Path

import prepare


def main() -> None:
    """Make the data, check it, or download a dataset to make it from."""
    parser = argparse.ArgumentParser(description="Make the data of the language-model task.")
    parser.add_argument("--out", type=Path, help="an empty folder: gets tokenizer, train, val and holdout")
    parser.add_argument("--corpus", default="python", help="'python', or a folder of .txt, .jsonl or .parquet files")
    parser.add_argument("--check", type=Path, metavar="DIR", help="check all four prepared folders in full")
    parser.add_argument(
        "--download", choices=["climbmix"], help="fetch this dataset; the only step that uses a network"
    )
    parser.add_argument("--to", type=Path, help="where the download goes")
    parser.add_argument("--shards", type=int, default=10, help="how many files to download")
    options = parser.parse_args()
    if options.download:
        import climbmix  # on a host, which needs nothing else

        climbmix.download(options.to or parser.error("--download needs --to DIR"), options.shards)
    elif options.check:
        for name in ("tokenizer", "train", "val", "holdout"):
            prepare.check(options.check / name)
    else:
        import build

        build.build(options.out or parser.error("--out DIR is needed"), options.corpus)


if __name__ == "__main__":
    main()
