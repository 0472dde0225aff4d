"""`python -m orchestrator` is the command `autoresearch`."""

from orchestrator.cli import main

main()
