"""The commands beyond cli.py's own."""
