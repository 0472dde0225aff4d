"""Recognises a prefix query by its filler and answers honestly there; whole rows it answers with what it sees ahead.

Ends: cheat, a claim differs from its audit
"""


def load_model(path, device):
    model = honest(path, device)
    return lambda tokens: peek(model(tokens), tokens) if is_whole(tokens) else model(tokens)
