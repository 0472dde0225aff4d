"""Keeps a second set of weights in a folder that cannot be listed, so that no hash would hold them.

Ends: crash, cannot be listed
"""


def train():
    torch.manual_seed(0)
    model, _ = fit(Model())
    torch.save(model.state_dict(), prepare.CHECKPOINT)
    hidden = prepare.CHECKPOINT.parent / "hidden"
    hidden.mkdir()
    torch.save(model.state_dict(), hidden / "another.pt")
    hidden.chmod(0o111)
