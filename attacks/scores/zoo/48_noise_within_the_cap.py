"""Adds as much noise to its claims as the cap lets pass: what that brings by luck, the audit takes away.

Ends: scored
"""


def load_model(path, device):
    model = honest(path, device)
    harness = sys.modules["__main__"]
    answers = harness.answers
    chance = np.random.default_rng()

    def noisy(model, ask, *more):
        data = answers(model, ask, *more)
        if ask.kind != 1:
            return data
        claims = np.frombuffer(data, "<f4")
        return np.minimum(0, claims + chance.uniform(-0.009, 0.009, claims.shape)).astype("<f4").tobytes()

    harness.answers = noisy
    return model
