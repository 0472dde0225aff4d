"""Computes in float32: right to seven digits, where nine are asked for.

Ends: crash, off by more than
"""

import numpy as np


def slow(points, queries):
    found = np.empty(len(queries))
    for start in range(0, len(queries), 512):
        difference = queries[start : start + 512, None, :] - points[None]
        found[start : start + 512] = np.sqrt((difference * difference).sum(-1).min(1))
    return found


def nearest(points, queries):
    return slow(points.astype(np.float32), queries.astype(np.float32)).astype(np.float64)
