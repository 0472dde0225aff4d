"""The adversarial suite: attacks on the walls, and on the score."""
