"""The locked code of the examples, without containers."""
