"""Processes of a Ray cluster: the head's driver, a slot on a host, and the worker that joins a host."""
