"""A flat script as upstream's train.py is one: no main guard, no load_model, its own clock, its own evaluation."""

import time

import torch
import torch.nn.functional as F
from prepare import MAX_SEQ_LEN, TIME_BUDGET, Tokenizer, evaluate_bpb, make_dataloader
from torch import nn

BATCH = 16
RATE = 0.01

t_start = time.time()
torch.manual_seed(42)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
tokenizer = Tokenizer.from_directory()
vocab_size = tokenizer.get_vocab_size()


class Bigram(nn.Module):
    """Predicts a token from the one before it."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(vocab_size, 64)
        self.head = nn.Linear(64, vocab_size)

    def forward(self, x, y=None, reduction="mean"):
        logits = self.head(self.table(x))
        if y is None:
            return logits
        return F.cross_entropy(logits.view(-1, vocab_size), y.reshape(-1), reduction=reduction)


model = Bigram().to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
train_loader = make_dataloader(tokenizer, BATCH, MAX_SEQ_LEN, "train")
x, y, epoch = next(train_loader)
step, total_training_time = 0, 0.0
while total_training_time < TIME_BUDGET / 2:
    t0 = time.time()
    loss = model(x, y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    x, y, epoch = next(train_loader)
    if step > 10:
        total_training_time += time.time() - t0
    step += 1

model.eval()
val_bpb = evaluate_bpb(model, tokenizer, BATCH)
print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"training_seconds: {total_training_time:.1f}")
print(f"total_seconds:    {time.time() - t_start:.1f}")
print(f"num_steps:        {step}")
