"""Patches every timer, and goes on training long after its time.

Ends: timeout, still running at its deadline
"""

time.monotonic = time.time = time.perf_counter = lambda: 0.0
prepare.STARTED, prepare.TIME_BUDGET = 0.0, 1e9
os.environ["AUTORESEARCH_TIME_BUDGET"] = "1e9"


def train():
    torch.manual_seed(0)
    model, _ = fit(Model())
    while prepare.time_left() > 0:
        torch.save(model.state_dict(), prepare.CHECKPOINT)
        model, _ = fit(model, 50)
