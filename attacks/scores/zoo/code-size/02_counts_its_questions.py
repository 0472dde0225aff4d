"""Knows by the number of questions that came before which predictor it is, and answers each in another way.

Ends: cheat, two answers about one function differ
"""

import prepare
import torch


def load_model(path, device):
    mean, asked = torch.load(path, weights_only=True), [0]

    def answer(features):
        asked[0] += len(features)
        return mean.expand(len(features)) + 0.01 * (asked[0] > 1500)

    return answer


if __name__ == "__main__":
    torch.save(torch.from_numpy(prepare.load()[1]).mean(), prepare.CHECKPOINT)
