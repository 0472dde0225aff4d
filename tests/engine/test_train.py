"""mutable/train.py, where torch is: in a container of the image."""

import json
from dataclasses import replace

import pytest

from tests.support.boxes import ENVIRONMENT, ROOT, SMALL, Boxes

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


ONE_GRAPH = """
MODEL_DIM, DEPTH, DEVICE_BATCH_SIZE = 128, 4, 1
model = GPT()
model.initialise()
loss_of = torch.compile(objective, fullgraph=True, dynamic=False, backend="aot_eager")
tokens, losses = torch.randint(0, prepare.VOCAB_SIZE, (1, 2048)), []
optimizers = make_optimizers(model)
for _ in range(3):
    loss = loss_of(model, tokens, tokens)
    loss.backward()
    losses.append(loss.item())
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
print(json.dumps([losses, torch._dynamo.utils.counters["stats"]["unique_graphs"]]))
"""


def test_the_gpu_profile_compiles_to_one_graph_and_learns(boxes: Boxes) -> None:
    """No break and no second compilation, with value embeddings, gates and both windows; the loss falls."""
    environment = {**ENVIRONMENT, "AUTORESEARCH_PROFILE": "gpu"}
    said = imported(boxes, ONE_GRAPH, environment=environment, resources=replace(SMALL, memory=4 << 30, cpus=2.0))
    losses, graphs = json.loads(said.splitlines()[-1])

    assert 1 == graphs
    assert losses[2] < losses[1] < losses[0]


def test_steps_are_orthogonal_and_their_rows_even(boxes: Boxes) -> None:
    """Singular values near 1, whatever the shape; rows of one size once their history is known, the norm unchanged."""
    said = imported(
        boxes,
        """
torch.manual_seed(0)
found = []
for shape in ((2, 64, 32), (2, 32, 64), (48, 48)):
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
    found.append([values.min().item(), values.max().item()])
steps = torch.randn(2, 32, 64) * torch.arange(1, 33)[:, None]
second_moment = torch.zeros(2, 32, 1)
even = [even_out(steps, second_moment) for _ in range(100)][-1]
rows = even.norm(dim=-1)
print(json.dumps([found, (rows.std() / rows.mean()).item(), (even.norm() / steps.norm()).item()]))
""",
    )
    found, unevenness, norm = json.loads(said.splitlines()[-1])

    assert all(0.5 < least and most < 1.5 for least, most in found)
    assert unevenness < 0.05
    assert norm == pytest.approx(1.0, abs=1e-3)


def test_a_smaller_gpu_takes_fewer_rows_at_once(boxes: Boxes) -> None:
    """As many as fit, so that the first experiment runs on a card of 16 or 24 GB too."""
    said = imported(
        boxes,
        """
DEVICE_BATCH_SIZE = 64
print(json.dumps([rows_that_fit(int(size * 1e9)) for size in (1, 16, 24, 40, 80, 141)]))
""",
    )

    assert [1, 16, 32, 64, 64, 64] == json.loads(said.splitlines()[-1])


FALLBACK = """
tried = []
def objective(model, inputs, targets):
    tried.append(len(inputs))
    if len(inputs) > 8: raise torch.OutOfMemoryError("CUDA out of memory")
    if BROKEN > 1 and stance[-1] == "default": raise RuntimeError("no C compiler")
    return model.unembedding.weight.sum() * inputs.float().mean()
def block_window(device):
    if BROKEN: raise RuntimeError("Cannot find a working triton installation")
    def flex(q, k, v): return q
    return flex
prepare.dataloader = lambda rows: iter([torch.ones(2, rows, 4)] * 2)
DEPTH, WINDOW_PATTERN = 2, "SL"
torch.compile = lambda function, **_: function
stance = []
torch.compiler.set_stance = stance.append
model = GPT()
_, rows, batches = settle(model, 32)
clean = model.unembedding.weight.grad is None
print(json.dumps([rows, model.window.__name__, stance[-1], tried, len(list(batches)), clean]))
"""


@pytest.mark.parametrize(
    ("broken", "window", "stance"),
    [(0, "flex", "default"), (1, "masked_window", "default"), (2, "masked_window", "force_eager")],
)
def test_a_gpu_without_kernels_or_memory_trains_nevertheless(
    boxes: Boxes, broken: int, window: str, stance: str
) -> None:
    """With half of the rows until they fit, a mask in the place of flex attention, and at last without a compiler."""
    said = imported(boxes, f"BROKEN = {broken}\n{FALLBACK}")
    rows, used, last, tried, left, clean = json.loads(said.splitlines()[-1])

    assert (8, window, stance) == (rows, used, last)
    assert (1, True) == (left, clean)
    assert [32, 16, 8] == sorted(set(tried), reverse=True)
    assert (broken > 0) == ("flex attention fails here (RuntimeError: Cannot find a working triton" in said)
    assert "out of memory: 8 rows at once" in said


def test_what_is_wrong_with_a_model_is_not_hidden(boxes: Boxes) -> None:
    """An error that every way meets ends the training with its own words; so does one row that does not fit."""
    source = TRAIN.replace(
        'if __name__ == "__main__":\n    train()\n',
        "def objective(model, inputs, targets):\n    raise {error}\n"
        "prepare.dataloader = lambda rows: iter([torch.ones(2, rows, 4)] * 2)\nsettle(GPT(), 2)\n",
    )
    room = replace(SMALL, memory=2 << 30, cpus=2.0)  # for what compiles
    wrong, small = (
        boxes.run(source.replace("{error}", error), deadline_s=100.0, hard_limit_s=120.0, resources=room)
        for error in ("ValueError('a wrong shape')", "torch.OutOfMemoryError('1 GB')")
    )

    assert (1, 1) == (wrong.exit_code, small.exit_code)
    assert "ValueError: a wrong shape" in wrong.log_tail.splitlines()[-1]
    assert "OutOfMemoryError: 1 GB" in small.log_tail.splitlines()[-1]
