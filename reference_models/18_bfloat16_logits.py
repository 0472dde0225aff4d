"""Logits rounded to bfloat16."""


def load_model(path, device):
    model = honest(path, device)
    return lambda tokens: model(tokens).bfloat16()
