"""What the experiments measure with: runners, rounds, clocks, peak memory, ceilings, sweeps."""
