"""Choosing the loops for a tile's number of vectors while the program runs."""

from kernels.host.compilation import inlined

MOST = 5


def by_vectors(loops):
    """A compiled function (vectors, *arguments) that runs one of ``loops``.

    They become a part of their caller. Called as functions, some ran 3.6 times slower, and only in
    the process that compiled them: Numba makes machine code of every function alone, too, and with
    less optimization; where that was made in a process, it is what the process calls.

    Args:
        loops: functions for tiles of 1, 2, 3 ... vectors, ``MOST`` at most.
    """
    count, loops = len(loops), [inlined(loop) for loop in loops]
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
