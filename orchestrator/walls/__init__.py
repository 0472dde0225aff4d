"""What keeps model-written code in: one spec, one engine, every container read back, watched, bounded and removed."""
