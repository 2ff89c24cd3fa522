"""What the host's operators are made of: compilation, SIMD tiles, threads, memory limits."""
