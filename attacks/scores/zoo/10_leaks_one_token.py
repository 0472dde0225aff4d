"""Looks one token ahead: the accident by which public loops reached 0.02.

Ends: cheat, a claim differs from its audit
"""


def load_model(path, device):
    model = honest(path, device)
    return lambda tokens: peek(model(tokens), tokens)
