"""Views of N x C x H x W maps by row, by plane, or by cell."""

from kernels.host.compilation import inner


def by_plane(maps):
    """The maps as N*C x H*W."""
    return maps.reshape(maps.shape[0] * maps.shape[1], -1)


def by_cell(*maps):
    """Lists of cells, M x C x 1 x 1 each, as M x C."""
    return [cells.reshape(cells.shape[:2]) for cells in maps]


@inner
def place_of_row(row, channels, height):
    """(n, c, y) of row number ``row`` of maps of ``channels`` channels and ``height`` rows."""
    return row // (channels * height), row // height % channels, row % height
