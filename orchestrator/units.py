"""What one unit is in another."""

SECONDS_PER_HOUR = 3600
MIB = 1 << 20
GIB = 1 << 30
