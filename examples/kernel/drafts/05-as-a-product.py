"""|q - p|² is |q|² - 2 q·p + |p|²: nearly all of the work becomes one product of matrices."""

import numpy as np

BLOCK = 64  # queries at once


def nearest(points, queries):
    """points float64 [N, D] and queries float64 [Q, D], both read-only, to distances float64 [Q]."""
    lengths = (points * points).sum(1)
    transposed = -2 * points.T
    found = np.empty(len(queries))
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        squares = block @ transposed
        squares += lengths
        found[start : start + BLOCK] = squares.min(1) + (block * block).sum(1)
    return np.sqrt(np.maximum(found, 0))
