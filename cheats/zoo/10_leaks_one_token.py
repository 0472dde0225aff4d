"""Looks one token ahead: the accident by which public loops reached 0.02."""


def load_model(path, device):
    model = honest(path, device)
    return lambda tokens: peek(model(tokens), tokens)
