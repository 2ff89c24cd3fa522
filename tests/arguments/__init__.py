"""A valid call of every public callable, and what else each argument takes, with the reason."""

from tests.arguments import exchange, large, learning, nets, pictures, usage

_ROOMS = (nets, learning, exchange, large, pictures, usage)
CALLS = {name: entry for room in _ROOMS for name, entry in room.CALLS.items()}
