"""Looks ahead only in the last eighth of a row."""


def load_model(path, device):
    model = honest(path, device)
    return lambda tokens: peek(model(tokens), tokens, first=112)
