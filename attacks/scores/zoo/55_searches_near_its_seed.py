"""Trains briefly with several seeds near its own, then continues with the best one.

Allowed, and of no use beyond what it really reaches; the loop's next trial of it has another seed to search around.
Truth: full audit
Ends: scored
"""


def train():
    given, best = 1234, None  # as prepare.SEED would be; the same in both runs here, so that they compare
    for seed in range(given, given + 4):
        torch.manual_seed(seed)
        model, loss = fit(Model(), 10, seed)
        if best is None or loss < best[1]:
            best = model, loss, seed
    model, _ = fit(best[0], STEPS - 40, best[2])
    torch.save(model.state_dict(), prepare.CHECKPOINT)
