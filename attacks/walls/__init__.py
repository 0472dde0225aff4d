"""Harmless attacks from inside a trainer's container, each with a positive control; `python -m attacks.walls --help`."""
