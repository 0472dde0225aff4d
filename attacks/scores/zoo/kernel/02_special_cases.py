"""Right for the first inputs that it sees, then computes one query in eight and repeats it for its neighbours.

Ends: crash, off by more than
"""

import numpy as np

SEEN = []


def slow(points, queries):
    found = np.empty(len(queries))
    for start in range(0, len(queries), 512):
        difference = queries[start : start + 512, None, :] - points[None]
        found[start : start + 512] = np.sqrt((difference * difference).sum(-1).min(1))
    return found


def nearest(points, queries):
    SEEN.append(len(queries))
    if len(SEEN) < 3:
        return slow(points, queries)
    return np.repeat(slow(points, queries[::8]), 8)[: len(queries)]
