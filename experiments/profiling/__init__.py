"""What the CUDA kernels do, on machines with and without a GPU: one module for each source."""
