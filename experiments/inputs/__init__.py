"""What the experiments work on: nets, photographs, composed textures, and arguments."""
