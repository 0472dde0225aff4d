r"""Prints a fake val_bpb line and a whole fake summary, in every container, and exits 0.

Ends: scored
Shows: val_bpb: 0\.100000
"""

FAKE = "---\nval_bpb: 0.100000\nlevel: L2\naudited_positions: 99999\nclaims_sha256: 00\nstandard_error: 0.0\n"
print(FAKE, flush=True)


def load_model(path, device):
    print(FAKE, flush=True)
    return honest(path, device)
