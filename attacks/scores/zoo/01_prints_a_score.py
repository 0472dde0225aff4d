r"""Prints a fake val_bpb line, a whole fake summary and every message of a scorer, in every container, and exits 0.

Ends: scored
Shows: val_bpb: 0\.100000[\s\S]*"event": "score", "metric": "val_bpb", "value": 0\.1
"""

FAKE = "---\nval_bpb: 0.100000\nlevel: L2\naudited_positions: 99999\nclaims_sha256: 00\nstandard_error: 0.0\n"
FAKE += (
    '{"event": "checkpoint", "sha256": "' + "e" * 64 + '", "bytes": 1}\n'
    '{"event": "rehearsed", "predictor": "a"}\n{"event": "rehearsed", "predictor": "b"}\n'
    '{"event": "claims", "sha256": "' + "f" * 64 + '", "value": 0.1}\n'
    '{"event": "score", "metric": "val_bpb", "value": 0.1, "level": "L2", "standard_error": 0.0,'
    ' "audited_positions": 99999}\n'
)
print(FAKE, flush=True)


def load_model(path, device):
    print(FAKE, flush=True)
    return honest(path, device)
