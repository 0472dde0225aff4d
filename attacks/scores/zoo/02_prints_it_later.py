r"""Prints the fake line and the fake message after the end: from atexit, and from a child that outlives the script.

Ends: scored
Shows: val_bpb: 0\.100000[\s\S]*"event": "score", "metric": "val_bpb", "value": 0\.1
"""

import atexit

FAKE = (
    'val_bpb: 0.100000\nlevel: L2\n{"event": "score", "metric": "val_bpb", "value": 0.1, "level": "L2",'
    ' "standard_error": 0.0, "audited_positions": 99999}'
)
atexit.register(lambda: print(FAKE, flush=True))
if os.fork() == 0:
    os.setsid()
    for _ in range(200):
        time.sleep(0.05)
        print(FAKE, file=sys.stderr, flush=True)
    os._exit(0)
