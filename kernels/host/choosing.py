"""Choosing the loops for a tile's number of vectors while the program runs."""

from kernels.host.compilation import inlined

MOST = 5


def by_vectors(loops):
    """A compiled function (vectors, *arguments) that calls one of ``loops``.

    Args:
        loops: compiled functions for tiles of 1, 2, 3 ... vectors, ``MOST`` at most.
    """
    count = len(loops)
    one, two, three, four, five = (loops + loops[-1:] * MOST)[:MOST]

    @inlined
    def choice(vectors, *arguments):
        if count > 4 and vectors == 5:
            five(*arguments)
        elif count > 3 and vectors == 4:
            four(*arguments)
        elif vectors == 3:
            three(*arguments)
        elif vectors == 2:
            two(*arguments)
        else:
            one(*arguments)

    return choice
