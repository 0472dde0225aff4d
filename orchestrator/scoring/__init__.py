"""What a number is worth: parsed from the scorer, held against noise, plausibility and calibrated thresholds."""
