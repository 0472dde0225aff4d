"""mutable/train.py, where torch is: in a container of the image."""

import json

import pytest

from tests.boxes import ROOT, Boxes

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]
TRAIN = (ROOT / "mutable" / "train.py").read_text(encoding="utf-8")
PEAKS = {
    "NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H100 PCIe": 756e12, "NVIDIA H100 NVL": 835e12, "NVIDIA H200": 989e12,
    "NVIDIA H100 80GB HBM3 MIG 1g.10gb": None, "NVIDIA A100-SXM4-80GB": 312e12, "NVIDIA A10": 125e12,
    "NVIDIA A10G": 70e12, "NVIDIA L40": 181e12, "NVIDIA L40S": 362e12, "NVIDIA L4": 121e12, "NVIDIA RTX A4000": None,
    "NVIDIA GeForce RTX 4090": 165e12, "NVIDIA GeForce RTX 4090 Laptop GPU": None, "Somebody's Card": None,
}  # fmt: skip


def imported(boxes: Boxes, then: str, **changed: object) -> str:
    """What a few lines print that have everything in train.py at hand."""
    source = TRAIN.replace('if __name__ == "__main__":\n    train()\n', f"import json\n{then}\n")
    ended = boxes.run(source, deadline_s=200.0, hard_limit_s=220.0, **changed)

    assert 0 == ended.exit_code, ended.log_tail
    return ended.log_tail


def test_the_peak_of_a_device_is_known_or_left_out(boxes: Boxes) -> None:
    """By its whole name: an L40S is no L40, and a part of an H100 no H100."""
    said = imported(boxes, f"print(json.dumps([peak_flops(name) for name in {list(PEAKS)!r}]))")

    assert list(PEAKS.values()) == json.loads(said.splitlines()[-1])
