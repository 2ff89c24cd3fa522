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


def by_shape(loops):
    """A compiled function (columns, vectors, *arguments) that runs the loops for tiles of either
    shape, which are one where there are few registers.

    Args:
        loops: makes the function for a tile of ``vectors`` vectors and ``columns`` columns.
    """
    made = {
        shape: by_vectors([loops(v + 1, shape[1]) for v in range(shape[0])])
        for shape in simd.SHAPES
    }
    (first, *_), one_shape = simd.SHAPES, len(simd.SHAPES) == 1
    of_first, of_other, columns_of_first = made[first], made[simd.SHAPES[-1]], first[1]

    @inlined
    def choice(columns, vectors, *arguments):
        if one_shape or columns == columns_of_first:
            of_first(vectors, *arguments)
        else:
            of_other(vectors, *arguments)

    return choice
