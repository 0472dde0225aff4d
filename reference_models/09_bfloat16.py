"""Inference in bfloat16."""


def load_model(path, device):
    model = honest(path, device).bfloat16()
    return lambda tokens: model(tokens).float()
