"""Where experiments run: slots of this machine."""
