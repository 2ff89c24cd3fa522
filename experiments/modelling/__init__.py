"""A model of how long nets would take on named devices: see ``experiments.model``."""
