"""A valid call of every public callable, and what else each argument takes, with the reason."""

from tests.arguments import large, learning, nets, pictures, usage

CALLS = nets.CALLS | large.CALLS | learning.CALLS | pictures.CALLS | usage.CALLS
