"""Whose turn it is on a shared machine: GPUs and cores leased, others noticed."""
