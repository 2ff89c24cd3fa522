"""The experiments, a module for each; ``python -m experiments --help`` explains how to run them."""
