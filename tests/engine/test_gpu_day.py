"""A GPU day rehearsed on a bare machine, and what stands in for upstream's kernel, where torch is."""

import json
import os
import subprocess

import pytest

from gpu_day import day, rehearsal
from gpu_day.rehearsal import LETTERS
from tests.support.boxes import ROOT

pytestmark = pytest.mark.engine
MINUTES = 12.0  # alone on two processors it takes four

SHIM = """
import json, sys
sys.path.append("gpu_day/shim")
import torch
from kernels import get_kernel
attend = get_kernel("somebody/flash-attention").flash_attn_interface.flash_attn_func
torch.manual_seed(0)
q, k, v = torch.randn(3, 2, 32, 4, 8).unbind(0)
def reference(left):
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / 8 ** 0.5
    far = torch.arange(32)[:, None] - torch.arange(32)
    scores = scores.masked_fill((far < 0) | (far > left), float("-inf"))
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)
def seen(left, q, k, v): return attend(q, k, v, causal=True, window_size=(left, 0))
found = [(seen(left, q, k, v) - reference(left)).abs().max().item() for left in (31, 32, 16, 5)]
def used(q, k, v): return seen(16, q, k, v).sum() + seen(32, q, k, v).sum()
torch.compile(used, fullgraph=True, backend="aot_eager")(q, k, v)
try: attend(q, k, v, causal=False, window_size=(16, 0))
except ValueError as error: print(json.dumps([found, str(error)]))
"""

ELSEWHERE = """
import prepare
prepare.device = lambda: "meta"
tokens = torch.zeros(2, prepare.MAX_SEQ_LEN, dtype=torch.int64, device="meta")
prepare.dataloader = lambda *_, **__: iter([(tokens, tokens)] * 2)
torch.Tensor.item = lambda self: 1.0
model, _ = fit(Model(), steps=1)
print(model(tokens).device.type)
"""


@pytest.mark.timeout(60 * (MINUTES + 3))
def test_a_day_that_is_cut_off_twice_ends_with_the_same_files(capfd: pytest.CaptureFixture[str]) -> None:
    """From the kit, without engine and network; what was measured before a cut is kept, and no process outlives it."""
    steps = rehearsal.rehearse(MINUTES, rehearsal.IMAGE)
    printed = capfd.readouterr().out

    assert LETTERS == "".join(sorted(steps))
    assert [1, 1, 1, 1, 6, 2, 0] == [len(step.counted()) for step in steps.values()]
    assert {"L2"} == {trial.level for letter in "bcef" for trial in steps[letter].counted()}
    upstream = steps["d"].counted()[0]
    assert ("L0", "shim (masks)") == (upstream.level, upstream.facts["attention"])
    scores = [trial.figures["val_bpb"] for letter in "bcdef" for trial in steps[letter].counted()]
    assert all(1.0 < score < 9.0 for score in [*scores, upstream.figures["own_val_bpb"]])
    assert steps["c"].counted()[0].figures["audited_positions"] > steps["b"].counted()[0].figures["audited_positions"]
    assert all((trial.conditions.host_peak_mb or 0) > 50 for trial in steps["e"].counted())
    assert 2 == printed.count("rehearsal: cut off")


def test_what_stands_in_for_upstreams_kernel_computes_the_same(image_id: str) -> None:
    """Windows as FlashAttention counts them, in one graph; what it does not know it refuses."""
    where = [f"--volume={ROOT}:/repo:ro", "--workdir=/repo", f"--user={os.getuid()}:{os.getgid()}"]
    done = subprocess.run(
        ["docker", "run", "--rm", "--network=none", *where, image_id, "python3", "-B", "-c", SHIM],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    differences, refused = json.loads(done.stdout.splitlines()[-1])

    assert max(differences) < 1e-5
    assert "this shim knows causal windows only" in refused


@pytest.mark.parametrize("name", day.OTHERS)
def test_the_honest_models_of_step_f_compute_where_their_data_is(name: str, image_id: str) -> None:
    """On a GPU too; here on the one other device that every torch has, on which nothing has a value."""
    where = [f"--volume={ROOT}:/repo:ro", "--workdir=/repo", f"--user={os.getuid()}:{os.getgid()}"]
    text = (day.MODELS / "base.py").read_text() + next(day.MODELS.glob(f"[0-9]*_{name}.py")).read_text() + ELSEWHERE
    where += ["--env=PYTHONPATH=/repo/locked", image_id, "python3", "-c", text]
    done = subprocess.run(
        ["docker", "run", "--rm", "--network=none", *where], capture_output=True, text=True, check=True
    )

    assert "meta" == done.stdout.splitlines()[-1]
