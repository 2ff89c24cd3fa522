"""What the experiments store: result files, and a cache of finished measurements."""
