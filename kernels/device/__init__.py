"""Machinery of the CUDA operators: all that depends on the CUDA packages or their simulator."""
