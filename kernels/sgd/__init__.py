"""Stochastic gradient descent with momentum and weight decay, in place.

v <- momentum * v + (g + decay * p);   p <- p - rate * v
"""
