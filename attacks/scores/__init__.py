"""Adversarial and honest train.py files, run through the real containers: `python -m attacks.scores`."""
