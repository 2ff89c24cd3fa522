"""Maxima of maxima on the host: what a large window's rows and columns are made of.

The maximum over a few neighbours is taken once for all windows that contain them: each level joins
up to nine maxima of the one before. Overlap is harmless: the maximum is idempotent, and ties keep
the first. So the bits are those of a comparison cell by cell.
"""

from typing import NamedTuple

import numpy as np

from kernels.host.compilation import inlined, inner
from kernels.host.vectors import lanes_of, largest, store
from kernels.max_pooling.cpu_workspace import MOST_PARTS, levels


class Joins(NamedTuple):
    """The levels of a column or of a row: how maxima are joined.

    Attributes:
        parts: number of parts of each level.
        places: distances of its parts from the first, ``MOST_PARTS`` a level; the last part stands
            at the end.
        cells: numbers of their first cells, likewise.
    """

    parts: np.ndarray
    places: np.ndarray
    cells: np.ndarray

    @classmethod
    def of(cls, places, cells):
        """From lists of each level's places and cells."""
        parts = np.array([len(level) for level in places])
        filled = [
            np.array([level[:-1] + level[-1:] * (MOST_PARTS + 1 - len(level)) for level in lists])
            for lists in (places, cells)
        ]
        return cls(parts, *filled)

    @classmethod
    def of_levels(cls, kernel, apart, number):
        """Joins of ``kernel`` cells: places ``apart``, numbers ``number`` between neighbours."""
        starts = levels(kernel)
        return cls.of(*([[n * by for n in level] for level in starts] for by in (apart, number)))


@inner
def _join(values, numbers, to, source, source_numbers, places, cells, count):
    """One level for ``count`` neighbours; at least a vector of them."""
    lanes, o = lanes_of(values), 0
    while o < count:
        o = min(o, count - lanes)
        value, number = largest(source, source_numbers, places, cells, o)
        store(values, to + o, value)
        if numbers is not None:
            store(numbers, to + o, number)
        o += lanes


def _joining(parts, otherwise):
    """``_join`` for levels of ``parts`` parts, given ``MOST_PARTS`` places and cells; for others,
    ``otherwise``."""
    before = parts - 1

    @inlined
    def join(values, numbers, to, source, source_numbers, level_parts, places, cells, count):
        if level_parts == parts:
            at, first = places[:before] + places[-1:], cells[:before] + cells[-1:]
            _join(values, numbers, to, source, source_numbers, at, first, count)
        else:
            otherwise(
                values, numbers, to, source, source_numbers, level_parts, places, cells, count
            )

    return join


@inlined
def join_parts(values, numbers, to, source, source_numbers, level_parts, places, cells, count):
    pass


for _parts in range(MOST_PARTS, 0, -1):
    join_parts = _joining(_parts, join_parts)


# Numba makes tuples only of what is written out, and arrays in their place would be allocated. So
# all that is done with ``MOST_PARTS`` places or cells is written nine times, here and in
# ``cpu_dense.py`` and ``kernels.listed_max_pooling.cpu_shared_rows``


@inlined
def entries(table, q):
    """A level's line of a table, as a tuple of ``MOST_PARTS`` ints."""
    t = table
    return t[q, 0], t[q, 1], t[q, 2], t[q, 3], t[q, 4], t[q, 5], t[q, 6], t[q, 7], t[q, 8]


@inlined
def moved(first, offsets):
    a, b, c, d, e, f, g, h, i = offsets
    return (
        *(first + a, first + b, first + c, first + d, first + e),
        *(first + f, first + g, first + h, first + i),
    )


@inner
def maxima_of_row(values, numbers, to, source, at, joins, width, beyond):
    """The maxima of ``width`` windows over the row of their cells that begins at ``source[at]`` and
    goes on for ``beyond`` more numbers."""
    lanes, left = lanes_of(values), beyond
    for q in range(len(joins.parts)):
        offsets, cells = entries(joins.places, q), entries(joins.cells, q)
        left -= offsets[-1]
        count = max(width + left, lanes)
        if q == 0:
            places = moved(at, offsets)
            join_parts(values, numbers, to, source, None, joins.parts[q], places, cells, count)
        else:
            # In place: what a vector replaces, none after it reads
            places, count = moved(to, offsets), -(-count // lanes) * lanes
            join_parts(
                *(values, numbers, to, values, numbers, joins.parts[q], places, cells, count)
            )
