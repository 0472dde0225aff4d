"""A script in upstream's manner: flat, a kernel from a hub, its own clock, `\r` between steps, its own evaluation."""

import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from kernels import get_kernel

fa3 = get_kernel("somebody/flash-attention").flash_attn_interface
from prepare import MAX_SEQ_LEN, TIME_BUDGET, Tokenizer, evaluate_bpb, make_dataloader

DEVICE_BATCH_SIZE = 16
WIDTH, HEADS = 64, 2
t_start = time.time()
torch.manual_seed(42)
tokenizer = Tokenizer.from_directory()
vocab_size = tokenizer.enc.n_vocab


class GPT(nn.Module):
    """One layer of attention to half of a row."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(vocab_size, WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.head = nn.Linear(WIDTH, vocab_size)

    def forward(self, x, y=None, reduction="mean"):
        h = self.table(x)
        q, k, v = self.qkv(h).view(*x.shape, 3, HEADS, -1).unbind(2)
        h = h + fa3.flash_attn_func(q, k, v, causal=True, window_size=(MAX_SEQ_LEN // 2, 0)).reshape(h.shape)
        logits = self.head(h)
        if y is None:
            return logits
        return F.cross_entropy(logits.view(-1, vocab_size), y.reshape(-1), reduction=reduction)


model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
train_loader = make_dataloader(tokenizer, DEVICE_BATCH_SIZE, MAX_SEQ_LEN, "train")
step, total_training_time = 0, 0.0
while total_training_time < TIME_BUDGET:
    t0 = time.time()
    x, y, epoch = next(train_loader)
    loss = model(x, y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if step > 10:
        total_training_time += time.time() - t0
    print(f"\rstep {step:05d} | loss: {loss.item():.6f}    ", end="", flush=True)
    step += 1
print()
model.eval()
val_bpb = evaluate_bpb(model, tokenizer, DEVICE_BATCH_SIZE)
print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"training_seconds: {total_training_time:.1f}")
print(f"total_seconds:    {time.time() - t_start:.1f}")
print(f"total_tokens_M:   {step * DEVICE_BATCH_SIZE * MAX_SEQ_LEN / 1e6:.1f}")
print(f"num_steps:        {step}")
