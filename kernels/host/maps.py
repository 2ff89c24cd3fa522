"""N x C x H x W maps as loops on the host go through them: by rows, or by planes in one run."""

from kernels.host.compilation import inner


def by_plane(maps):
    """The maps as N*C x H*W."""
    return maps.reshape(maps.shape[0] * maps.shape[1], -1)


@inner
def place_of_row(row, channels, height):
    """(n, c, y) of row number ``row`` of maps of ``channels`` channels and ``height`` rows."""
    return row // (channels * height), row // height % channels, row % height
