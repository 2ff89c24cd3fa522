"""The experiments: ``python -m experiments --help``."""
