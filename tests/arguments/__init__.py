"""A valid call of every public callable, and what else each argument takes, with the reason."""

from tests.arguments import exchange, learning, nets, pictures, usage

CALLS = nets.CALLS | learning.CALLS | exchange.CALLS | pictures.CALLS | usage.CALLS
