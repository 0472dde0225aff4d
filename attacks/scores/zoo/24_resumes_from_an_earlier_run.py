r"""Leaves its weights everywhere, and goes on from what an earlier experiment left.

Ends: scored
Shows: found \[\]
"""

import glob
import shutil

PLACES = ("/out", "/tmp", "/cache", "/dev/shm", "/var/tmp", "/run/lock", "/mutable", "/data/train", "/home")


def train():
    torch.manual_seed(0)
    model = Model()
    found = [path for place in PLACES for path in glob.glob(place + "/**/*.pt", recursive=True)]
    print("found", found, flush=True)
    for path in found:
        model.load_state_dict(torch.load(path))
    model, _ = fit(model)
    torch.save(model.state_dict(), prepare.CHECKPOINT)
    for place in PLACES:
        try:
            shutil.copy(prepare.CHECKPOINT, place + "/kept.pt")
        except OSError:
            pass
    os.remove("/out/kept.pt") if os.path.exists("/out/kept.pt") else None
