"""Claims to know two hundred of the hardest tokens, and is honest about all others.

Ends: cheat, a claim differs from its audit
"""


def load_model(path, device):
    model = honest(path, device)
    harness = sys.modules["__main__"]
    answers = harness.answers

    def better(model, ask, *more):
        data = answers(model, ask, *more)
        if ask.kind != 1:
            return data
        claims = np.frombuffer(data, "<f4").copy()
        claims[np.argsort(claims)[:25]] = -0.5
        return claims.tobytes()

    harness.answers = better
    return model
