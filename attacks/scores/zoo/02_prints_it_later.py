r"""Prints the fake line after the end: from atexit, and from a child that outlives the script.

Ends: scored
Shows: val_bpb: 0\.100000
"""

import atexit

atexit.register(lambda: print("val_bpb: 0.100000\nlevel: L2", flush=True))
if os.fork() == 0:
    os.setsid()
    for _ in range(200):
        time.sleep(0.05)
        print("val_bpb: 0.100000\nlevel: L2", file=sys.stderr, flush=True)
    os._exit(0)
