"""Answers a function by how it compares with the others that are asked about at once.

Ends: cheat, two answers about one function differ
"""

import prepare
import torch


def load_model(path, device):
    mean, spread = torch.load(path, weights_only=True)

    def answer(features):
        logs = torch.log1p(features.sum(1))
        return mean + spread * (logs - logs.mean()) / logs.std()

    return answer


if __name__ == "__main__":
    sizes = torch.from_numpy(prepare.load()[1])
    torch.save((sizes.mean(), sizes.std()), prepare.CHECKPOINT)
