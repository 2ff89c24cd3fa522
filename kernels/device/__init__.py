"""What makes the device work: all that depends on the CUDA packages or on their simulator."""
