"""autoresearch-sandbox: an overnight research loop that can be trusted on a shared GPU server."""

__version__ = "0.1.0"
