"""Looks ahead only in the last eighth of a row.

Ends: cheat, a claim differs from its audit
"""


def load_model(path, device):
    model = honest(path, device)
    return lambda tokens: peek(model(tokens), tokens, first=112)
