"""Trains a small GPT within the time budget. The one file that experiments change; everything in it is fair game.

Contract (program.md): run as a script it trains and leaves a checkpoint at prepare.CHECKPOINT before
prepare.time_left() is over; imported it trains nothing and offers load_model(path, device); data, tokenizer,
constants, device and seed come from `prepare`.
"""

import math
import os
import time

import prepare
import torch
import torch.nn.functional as F
from torch import nn

# --- hyper-parameters -----------------------------------------------------------------------------------------------

if prepare.PROFILE == "cpu":
    DEPTH = 2
    MODEL_DIM = 96
    HEAD_DIM = 32
    MLP_RATIO = 2
    WINDOW_PATTERN = "L"  # per layer, repeated: L sees the whole context, S its last quarter
    DEVICE_BATCH_SIZE = 16  # rows in one forward pass
    TOTAL_BATCH_SIZE = 2048  # tokens in one step
    MATRIX_LR = 0.02  # Muon: the matrices of the blocks
    EMBEDDING_LR = 0.1  # AdamW: token and value embeddings
    UNEMBEDDING_LR = 0.02  # AdamW: the output layer
    WEIGHT_DECAY = 0.0  # Muon, where step and weight have one sign
    LOGIT_CAP = 0.0  # logits are bounded smoothly by this; 0: not at all
    WARMUP_RATIO = 0.02  # share of the time budget in which the learning rate rises
    WARMDOWN_RATIO = 0.6  # share of it in which it falls to FINAL_LR_FRACTION
    FINAL_LR_FRACTION = 0.0
    RESERVE_SECONDS = 2.0  # kept to write the checkpoint
else:
    DEPTH = 8
    MODEL_DIM = 512
    HEAD_DIM = 128
    MLP_RATIO = 4
    WINDOW_PATTERN = "SSSL"
    DEVICE_BATCH_SIZE = 64  # on a GPU where one takes ROW_GB; halved while there is less
    TOTAL_BATCH_SIZE = 524288
    MATRIX_LR = 0.04
    EMBEDDING_LR = 0.6
    UNEMBEDDING_LR = 0.004
    WEIGHT_DECAY = 0.2
    LOGIT_CAP = 15.0
    WARMUP_RATIO = 0.0
    WARMDOWN_RATIO = 0.5
    FINAL_LR_FRACTION = 0.0
    RESERVE_SECONDS = 6.0

ADAM_BETAS = (0.8, 0.95)
MOMENTUM = 0.95  # Muon
FIRST_MOMENTUM = 0.85  # at the start; it rises over a share of the time budget
MOMENTUM_RATIO = 0.3
SECOND_MOMENT = 0.95  # Muon: how slowly it forgets how large the steps of a row are
GATE_CHANNELS = 32  # of the stream, from which each head reads how much of the value embedding it takes
ROTARY_BASE = 10000.0
ROW_GB = 0.5
SHORT_WINDOW = prepare.MAX_SEQ_LEN // 4

# --- model ----------------------------------------------------------------------------------------------------------


def norm(x: torch.Tensor) -> torch.Tensor:
    """RMSNorm without a learned gain."""
    return F.rms_norm(x, (x.size(-1),))


def rotary_tables(length: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines [1, 1, T, HEAD_DIM / 2]."""
    frequencies = ROTARY_BASE ** -torch.linspace(0, 1, HEAD_DIM // 2, device=device)
    angles = torch.outer(torch.arange(length, device=device, dtype=torch.float32), frequencies)
    return angles.cos()[None, None], angles.sin()[None, None]


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of [B, H, T, D]."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).type_as(x)


def has_values(layer: int) -> bool:
    """Every other layer has value embeddings, the last one among them."""
    return layer % 2 == (DEPTH - 1) % 2


class Attention(nn.Module):
    """Causal self-attention with rotary positions, normed queries and keys, and a gated value embedding."""

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.short = WINDOW_PATTERN[layer % len(WINDOW_PATTERN)] == "S" and layer != DEPTH - 1
        self.qkv = nn.Parameter(torch.empty(3, MODEL_DIM, MODEL_DIM))
        self.out = nn.Parameter(torch.zeros(MODEL_DIM, MODEL_DIM))
        self.value_gate = nn.Parameter(torch.zeros(MODEL_DIM // HEAD_DIM, GATE_CHANNELS)) if has_values(layer) else None

    def context(self) -> int:
        """How many tokens a query can see."""
        return SHORT_WINDOW if self.short else prepare.MAX_SEQ_LEN

    def forward(self, x, values, tables, window):
        batch, length, _ = x.shape
        q, k, v = F.linear(x, self.qkv.flatten(0, 1)).view(batch, length, 3, -1, HEAD_DIM).permute(2, 0, 3, 1, 4)
        if values is not None:
            gate = 2 * torch.sigmoid(F.linear(x[..., :GATE_CHANNELS], self.value_gate))  # [B, T, H]
            values = gate[..., None] * values.view(batch, length, -1, HEAD_DIM)
            v = v + values.transpose(1, 2).type_as(v)
        q, k = norm(rotate(q, *tables)).type_as(v), norm(rotate(k, *tables)).type_as(v)
        y = window(q, k, v) if self.short else F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return F.linear(y.transpose(1, 2).reshape(batch, length, MODEL_DIM), self.out)


class Block(nn.Module):
    """Attention, then a squared-ReLU MLP, each on the normed stream."""

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.attention = Attention(layer)
        self.up = nn.Parameter(torch.empty(MLP_RATIO * MODEL_DIM, MODEL_DIM))
        self.down = nn.Parameter(torch.zeros(MODEL_DIM, MLP_RATIO * MODEL_DIM))

    def forward(self, x, values, tables, window):
        x = x + self.attention(norm(x), values, tables, window)
        return x + F.linear(F.relu(F.linear(norm(x), self.up)).square(), self.down)


class GPT(nn.Module):
    """Token ids [B, T] to logits [B, T, V]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(prepare.VOCAB_SIZE, MODEL_DIM)
        self.value_embeddings = nn.ModuleList(
            nn.Embedding(prepare.VOCAB_SIZE, MODEL_DIM) for layer in range(DEPTH) if has_values(layer)
        )
        self.blocks = nn.ModuleList(Block(layer) for layer in range(DEPTH))
        self.unembedding = nn.Linear(MODEL_DIM, prepare.VOCAB_SIZE, bias=False)
        self.window = masked_window

    def initialise(self) -> None:
        bound = math.sqrt(3 / MODEL_DIM)
        for block in self.blocks:
            nn.init.uniform_(block.attention.qkv, -bound, bound)
            nn.init.uniform_(block.up, -bound, bound)
        nn.init.normal_(self.embedding.weight)
        for table in self.value_embeddings:
            nn.init.uniform_(table.weight, -bound, bound)
        nn.init.normal_(self.unembedding.weight, std=0.001)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=tokens.is_cuda):
            return self.logits(tokens)

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        tables = rotary_tables(tokens.size(1), tokens.device)
        x = norm(self.embedding(tokens))
        x = x.bfloat16() if x.is_cuda else x
        for layer, block in enumerate(self.blocks):
            values = self.value_embeddings[layer // 2](tokens).type_as(x) if has_values(layer) else None
            x = block(x, values, tables, self.window)
        logits = self.unembedding(norm(x)).float()
        return LOGIT_CAP * torch.tanh(logits / LOGIT_CAP) if LOGIT_CAP else logits


def masked_window(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention to the last SHORT_WINDOW tokens, with a mask: right everywhere, fast nowhere."""
    places = torch.arange(q.size(2), device=q.device)
    distance = places[:, None] - places[None, :]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=(distance >= 0) & (distance < SHORT_WINDOW))


def block_window(device: str):
    """The same as a kernel that skips what is masked; needs torch.compile and Triton."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def near(batch, head, query, key):
        return (query >= key) & (query - key < SHORT_WINDOW)

    blocks = create_block_mask(near, None, None, prepare.MAX_SEQ_LEN, prepare.MAX_SEQ_LEN, device=device)
    return lambda q, k, v: flex_attention(q, k, v, block_mask=blocks)


def objective(model: GPT, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats a token."""
    return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def load_model(path, device):
    """The trained model: token ids int64 [B, T] to logits [B, T, V]. Called by the predictors."""
    model = GPT().to(device)
    model.load_state_dict(torch.load(path, map_location=device, weights_only=True))
    return model.eval()


# --- optimiser ------------------------------------------------------------------------------------------------------


POLAR_EXPRESS = (  # of quintic polynomials, each the best after the one before; arXiv 2505.16932
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def orthogonalise(g: torch.Tensor) -> torch.Tensor:
    """Bring the singular values of matrices [..., m, n] near 1."""
    x = g.bfloat16() if g.is_cuda else g
    wide = x.size(-2) <= x.size(-1)
    x = x if wide else x.mT
    x = x / (1.02 * x.norm(dim=(-2, -1), keepdim=True) + 1e-6)
    for first, third, fifth in POLAR_EXPRESS:
        a = x @ x.mT
        x = first * x + (third * a + fifth * a @ a) @ x
    return (x if wide else x.mT).type_as(g)


def even_out(update: torch.Tensor, second_moment: torch.Tensor) -> torch.Tensor:
    """Give the rows of updates [k, m, n] one size, by what it was so far [k, m, 1]; the whole keeps its own. NorMuon."""
    second_moment.lerp_(update.square().mean(-1, keepdim=True), 1 - SECOND_MOMENT)
    even = update * second_moment.clamp_min(1e-10).rsqrt()
    norm, even_norm = (x.norm(dim=(-2, -1), keepdim=True) for x in (update, even))
    return even * (norm / even_norm.clamp_min(1e-10))


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonalised; for matrices [..., m, n], those of one shape together."""

    def __init__(self, groups) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0, "momentum": FIRST_MOMENTUM})
        cuda = self.param_groups[0]["params"][0].is_cuda
        self.orthogonalise = torch.compile(orthogonalise, dynamic=False) if cuda else orthogonalise

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            parameters = group["params"]
            gradients = torch.stack([p.grad for p in parameters])
            state = self.state[parameters[0]]
            if not state:
                state["momentum"] = torch.zeros_like(gradients)
                state["second_moment"] = torch.zeros_like(gradients[..., :1])
            state["momentum"].lerp_(gradients, 1 - group["momentum"])
            update = self.orthogonalise(gradients.lerp(state["momentum"], group["momentum"]))
            update = even_out(update, state["second_moment"])
            rate = group["lr"] * max(1.0, update.size(-2) / update.size(-1)) ** 0.5
            for p, u in zip(parameters, update.unbind(0), strict=True):
                if group["weight_decay"]:
                    p.sub_(p * (u * p > 0), alpha=group["lr"] * group["weight_decay"])
                p.sub_(u, alpha=rate)


def make_optimizers(model: GPT) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
    shapes: dict[torch.Size, list[nn.Parameter]] = {}
    gates = []
    for name, p in model.blocks.named_parameters():
        gates.append(p) if name.endswith("value_gate") else shapes.setdefault(p.shape, []).append(p)
    muon = Muon([{"params": same, "lr": MATRIX_LR, "weight_decay": WEIGHT_DECAY} for same in shapes.values()])
    tables = [model.embedding.weight, *(table.weight for table in model.value_embeddings)]
    adam = torch.optim.AdamW(
        [
            {"params": tables, "lr": EMBEDDING_LR},
            {"params": list(model.unembedding.parameters()), "lr": UNEMBEDDING_LR},
            {"params": gates, "lr": UNEMBEDDING_LR},
        ],
        betas=ADAM_BETAS,
        eps=1e-10,
        weight_decay=0.0,
        fused=True,
    )
    for optimizer in (muon, adam):
        for group in optimizer.param_groups:
            group["full_lr"] = group["lr"]
    return [muon, adam]


def learning_rate(progress: float) -> float:
    """Share of the full learning rate when `progress` (0 to 1) of the time is used up."""
    if progress < WARMUP_RATIO:
        return max(progress, 0.001) / WARMUP_RATIO
    left = min(1.0, (1 - progress) / WARMDOWN_RATIO)
    return FINAL_LR_FRACTION + (1 - FINAL_LR_FRACTION) * left


def momentum(progress: float) -> float:
    """Muon's when `progress` (0 to 1) of the time is used up."""
    return FIRST_MOMENTUM + (MOMENTUM - FIRST_MOMENTUM) * min(1.0, progress / MOMENTUM_RATIO)


# --- training -------------------------------------------------------------------------------------------------------

PEAK_BF16_FLOPS = {  # of a whole device, dense; the longest name that the device's own holds counts
    "GB200": 2500e12,
    "B200": 2250e12,
    "GH200": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "A40": 150e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
PARTIAL = ("MIG", "Laptop", "D")  # in the name of a device that is less than the one it is named after


def peak_flops(name: str) -> float | None:
    """Peak of a device by its name, None where it is not known."""
    words = f" {name.replace('-', ' ')} "
    known = [part for part in PEAK_BF16_FLOPS if f" {part} " in words]
    whole = not any(f" {word} " in words for word in PARTIAL)
    return PEAK_BF16_FLOPS[max(known, key=len)] if known and whole else None


class Progress:
    """Counts steps and tokens, prints a line a second, and the summary."""

    cold_steps = 3  # the first ones compile

    def __init__(self, model: GPT, tokens_per_step: int) -> None:
        self.model, self.tokens_per_step = model, tokens_per_step
        self.started = self.warm = self.last = self.shown = prepare.elapsed()
        self.step, self.loss, self.slowest = 0, 0.0, 0.0

    def count(self, loss: float) -> None:
        """Take note of a finished step."""
        self.step += 1
        self.loss += (loss - self.loss) * max(0.1, 1 / self.step)
        now = prepare.elapsed()
        if self.step <= self.cold_steps:
            self.warm = now
        else:
            self.slowest = max(self.slowest * 0.99, now - self.last)
        self.last = now
        if now - self.shown >= 1:
            self.shown = now
            left = prepare.time_left()
            print(f"step {self.step} | loss {self.loss:.4f} | {self.speed():,.0f} tok/s | {left:.1f}s left", flush=True)

    def speed(self) -> float:
        """Tokens a second, once everything is compiled."""
        steps, since = (
            (self.step - self.cold_steps, self.warm) if self.step > self.cold_steps else (self.step, self.started)
        )
        return steps * self.tokens_per_step / max(self.last - since, 1e-9)

    def compiling(self) -> float:
        """What the first steps took longer than later ones do."""
        cold = min(self.step, self.cold_steps) * self.tokens_per_step / max(self.speed(), 1e-9)
        return max(0.0, self.warm - self.started - cold)

    def summary(self, bytes_per_token: float) -> None:
        """Upstream's block; `train_bpb` is this script's own estimate on training text and is no score."""
        cuda = prepare.device() == "cuda"
        peak = peak_flops(torch.cuda.get_device_name()) if cuda else None
        tables = sum(m.weight.numel() for m in self.model.modules() if isinstance(m, nn.Embedding))
        parameters = sum(p.numel() for p in self.model.parameters())
        attention = sum(b.attention.context() for b in self.model.blocks) * 12 * MODEL_DIM
        flops = self.speed() * (6 * (parameters - tables) + attention)
        print("---")
        print(f"train_bpb:        {self.loss / math.log(2) / bytes_per_token:.6f}")
        print(f"startup_seconds:  {self.started:.1f}")
        print(f"compile_seconds:  {self.compiling():.1f}")
        print(f"training_seconds: {self.last - self.started:.1f}")
        print(f"total_seconds:    {prepare.elapsed():.1f}")
        print(f"tokens_per_second: {self.speed():.0f}")
        if cuda:
            print(f"peak_vram_mb:     {torch.cuda.max_memory_allocated() / 2**20:.1f}")
        if peak is not None:  # a number that is not known is left out
            print(f"mfu_percent:      {100 * flops / peak:.2f}")
        print(f"total_tokens_M:   {self.step * self.tokens_per_step / 1e6:.2f}")
        print(f"num_steps:        {self.step}")
        print(f"num_params_M:     {parameters / 1e6:.2f}")
        print(f"depth:            {DEPTH}", flush=True)


def rows_that_fit(gpu_bytes: int) -> int:
    """DEVICE_BATCH_SIZE, halved until nine tenths of a GPU's memory hold it; the step stays as large."""
    rows = DEVICE_BATCH_SIZE
    while rows > 1 and rows * ROW_GB > 0.9 * gpu_bytes / 1e9:
        rows //= 2
    return rows


def train() -> None:
    """Train until the time is nearly over, write the checkpoint, print the summary."""
    torch.manual_seed(prepare.SEED)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = prepare.device()
    cuda = device == "cuda"
    if cuda:
        torch.set_float32_matmul_precision("high")
    model = GPT().to(device)
    model.initialise()
    if cuda and any(block.attention.short for block in model.blocks):
        model.window = block_window(device)
    loss_of = torch.compile(objective, dynamic=False) if cuda else objective
    optimizers = make_optimizers(model)
    rows = rows_that_fit(torch.cuda.mem_get_info()[1]) if cuda else DEVICE_BATCH_SIZE
    batches = prepare.dataloader(rows)
    inputs, targets = next(batches)
    accumulate = max(1, TOTAL_BATCH_SIZE // (rows * prepare.MAX_SEQ_LEN))
    progress = Progress(model, accumulate * rows * prepare.MAX_SEQ_LEN)
    end = prepare.TIME_BUDGET - RESERVE_SECONDS
    while prepare.elapsed() + progress.slowest < end:
        loss = torch.zeros((), device=device)
        for _ in range(accumulate):
            part = loss_of(model, inputs, targets) / accumulate
            part.backward()
            loss += part.detach()
            inputs, targets = next(batches)  # while a GPU still works on the last ones
        done = (progress.last - progress.started) / (end - progress.started)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(done) * group["full_lr"]
                if "momentum" in group:
                    group["momentum"] = momentum(done)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        progress.count(loss.item())
    torch.save(model.state_dict(), prepare.CHECKPOINT)
    lengths = prepare.Tokenizer.load().byte_lengths()
    progress.summary(float(lengths[inputs.cpu().numpy()].mean()))


if __name__ == "__main__":
    train()
