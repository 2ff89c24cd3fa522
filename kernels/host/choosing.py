"""Choosing the loops for a tile's shape while the program runs."""

from kernels.host import simd
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


def by_shape(loops, columns=None):
    """A compiled function (columns, vectors, *arguments) that runs the loops for tiles of either
    shape, which are one where there are few registers.

    Args:
        loops: makes the function for a tile of ``vectors`` vectors and ``columns`` columns.
        columns: of tiles of 1, 2, 3 ... vectors of the first shape; None: as it says.
    """
    (vectors, of_tile), *others = simd.SHAPES
    columns, one_shape = columns or (of_tile,) * vectors, not others
    of_first = by_vectors([loops(*tile) for tile in enumerate(columns, 1)])
    of_other = of_first
    for vectors, of_each in others:
        of_other = by_vectors([loops(v, of_each) for v in range(1, vectors + 1)])

    @inlined
    def choice(columns, vectors, *arguments):
        if one_shape or columns == of_tile:
            of_first(vectors, *arguments)
        else:
            of_other(vectors, *arguments)

    return choice
