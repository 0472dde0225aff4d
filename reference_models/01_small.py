"""The small model that all cheats are built around."""
