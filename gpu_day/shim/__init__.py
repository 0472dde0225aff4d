"""What upstream's scripts import and a bare machine lacks; put last on the path, so that the real ones win."""
