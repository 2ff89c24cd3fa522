"""What the experiments work on: nets, photographs and images composed of textures."""
