"""Trains with several seeds inside one run and keeps the luckiest.

Allowed, and of no use beyond what it really reaches.
Truth: full audit
Ends: scored
"""


def train():
    candidates = []
    for seed in range(3):
        torch.manual_seed(seed)
        candidates.append(fit(Model(), STEPS // 3, seed))
    torch.save(min(candidates, key=lambda c: c[1])[0].state_dict(), prepare.CHECKPOINT)
