"""Pixels that are chosen by a seeded rule: at random, or by scribbles, strokes over an image."""

import numpy as np

LENGTH, WIDTH = 50, 3
"""Steps of a stroke, each one cell long, and rows and columns of its brush."""
BEND = 0.25
"""Standard deviation of the turn at each step, in radians."""
MOST = 20
"""Strokes for each ``LENGTH`` pixels; what they leave is filled in row by row."""


DRAWN = "random", "scribbles"
"""How pixels are chosen."""


def chosen_pixels(drawn: str, size: tuple[int, int], number: int, seed: int) -> np.ndarray:
    """``number`` different pixels of a map of ``size`` (or all), P x 2, chosen as ``drawn`` says;
    fewer are the first of more."""
    rng = np.random.default_rng(seed)
    if drawn == "scribbles":
        return scribbled(size, number, rng)
    cells = rng.permutation(size[0] * size[1])[:number]
    return np.stack(np.unravel_index(cells, size), axis=1)


def scribbled(size: tuple[int, int], number: int, rng: np.random.Generator) -> np.ndarray:
    """``number`` different pixels of a map of ``size`` (or all), P x 2, in the order in which a
    brush comes to them.

    A stroke begins anywhere, in any direction, and bends a little at each step; beyond the edge of
    the map it draws nothing.

    >>> pixels = scribbled((64, 64), 300, np.random.default_rng(0))
    >>> len(np.unique(pixels, axis=0))
    300
    """
    number = min(number, size[0] * size[1])
    reach = np.arange(WIDTH) - WIDTH // 2
    brush = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
    seen, drawn, count = np.zeros(size[0] * size[1], bool), [], 0

    def draw(cells):
        """Add those that are new, each where it first occurs."""
        cells, places = np.unique(cells, return_index=True)
        cells = cells[np.argsort(places)]
        drawn.append(cells[~seen[cells]])
        seen[cells] = True
        return len(drawn[-1])

    for _ in range(MOST * (number // LENGTH + 1)):
        headings = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, BEND, LENGTH))
        steps = np.cumsum(np.stack([np.sin(headings), np.cos(headings)], axis=1), axis=0)
        path = np.rint(rng.uniform((0, 0), size) + steps).astype(int)
        cells = (path[:, None] + brush).reshape(-1, 2)
        inside = ((cells >= 0) & (cells < size)).all(axis=1)
        count += draw(np.ravel_multi_index(cells[inside].T, size))
        if count >= number:
            break
    draw(np.arange(seen.size))
    return np.stack(np.unravel_index(np.concatenate(drawn)[:number], size), axis=1)
