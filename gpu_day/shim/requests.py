"""Satisfies an import of upstream's prepare.py; its data is there already, and there is no network."""


class RequestException(Exception):
    """Never raised."""
