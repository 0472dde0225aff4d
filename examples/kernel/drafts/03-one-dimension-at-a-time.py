"""Squares are added up one dimension at a time: no sum over a short last axis."""

import numpy as np

BLOCK = 64  # queries at once


def nearest(points, queries):
    """points float64 [N, D] and queries float64 [Q, D], both read-only, to distances float64 [Q]."""
    columns = np.ascontiguousarray(points.T)
    found = np.empty(len(queries))
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        squares = np.zeros((len(block), len(points)))
        for axis, column in enumerate(columns):
            difference = block[:, axis, None] - column
            difference *= difference
            squares += difference
        found[start : start + BLOCK] = np.sqrt(squares.min(1))
    return found
