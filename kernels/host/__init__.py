"""What makes the host work: register tiles, shared work, windows with a stride, compilation."""
