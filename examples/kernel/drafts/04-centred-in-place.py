"""The product of matrices, with points and queries moved to their centre first, in place."""

import numpy as np

BLOCK = 64  # queries at once


def nearest(points, queries):
    """points float64 [N, D] and queries float64 [Q, D], both read-only, to distances float64 [Q]."""
    centre = points.mean(0)
    points -= centre
    queries -= centre
    found = np.empty(len(queries))
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        squares = (points * points).sum(1) - 2 * block @ points.T
        found[start : start + BLOCK] = squares.min(1) + (block * block).sum(1)
    return np.sqrt(np.maximum(found, 0))
