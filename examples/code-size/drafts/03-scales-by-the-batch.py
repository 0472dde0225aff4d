"""Scale the counts by the mean and the spread of the batch that they are in."""

import prepare
import torch
from torch import nn

HIDDEN = 64
DEPTH = 1
LEARNING_RATE = 0.003
WEIGHT_DECAY = 0.0
BATCH_SIZE = 256
RESERVE_SECONDS = 1.5


class Model(nn.Module):
    """The logarithm of a sum of learned costs, which are positive, and a small network beside it."""

    def __init__(self) -> None:
        super().__init__()
        width = len(prepare.FEATURES)
        self.costs = nn.Parameter(torch.zeros(width))
        layers = []
        for _ in range(DEPTH):
            layers += [nn.Linear(width, HIDDEN), nn.ReLU()]
            width = HIDDEN
        self.network = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, features):
        size = features @ nn.functional.softplus(self.costs) + 1
        x = torch.log1p(features)
        x = (x - x.mean(0)) / (x.std(0) + 0.1)
        return torch.log2(size) + self.network(x)[:, 0]


def load_model(path, device):
    """Features float32 [B, F] to log2 of bytes [B]."""
    model = Model()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.to(device).eval()


def train() -> None:
    """Until the time is nearly over, with a learning rate that falls to 0."""
    torch.manual_seed(prepare.SEED)
    device = prepare.device()
    features, sizes = (torch.from_numpy(array).to(device) for array in prepare.load())
    model = Model().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    whole, steps, loss = max(prepare.time_left() - RESERVE_SECONDS, 1e-9), 0, torch.zeros(())
    while (left := (prepare.time_left() - RESERVE_SECONDS) / whole) > 0:
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * left
        chosen = torch.randint(len(features), (BATCH_SIZE,), device=device)
        loss = nn.functional.mse_loss(model(features[chosen]), sizes[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    torch.save(model.state_dict(), prepare.CHECKPOINT)
    print(f"steps: {steps}\ntrain_rmse: {loss.sqrt().item():.4f}")


if __name__ == "__main__":
    train()
