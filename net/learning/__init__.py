"""Learning from labelled pixels: training steps, runs over many of them, and their checkpoints."""
