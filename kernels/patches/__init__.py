"""Cutting patches out of an image at given pixels, and the gradient of that.

    p[n, c, i, j] = image[0, c, rows[n] + i, columns[n] + j]

(rows, columns) are the patches' top left pixels. The gradient gathers: each pixel of the image adds
the errors of all patches that cover it, in the order of n.
"""

from kernels import checks
from kernels.checks import Pair


def patches_shape(image, rows, columns, size) -> tuple[int, int, int, int]:
    """Shape of the patches of ``size`` whose top left pixels are (rows, columns).

    Whether every patch lies inside the image is seen where rows and columns lie on the host
    (``check_inside``); on a device, it is the caller's to know."""
    checks.array("image", image, (1, None, None, None))
    checks.array("rows", rows, (None,), ("int32",))
    checks.array("columns", columns, (rows.shape[0],), ("int32",))
    ph, pw = checks.pair("size", size)
    if ph > image.shape[2] or pw > image.shape[3]:
        raise ValueError(
            f"size is {ph} x {pw}; expected at most the image's {image.shape[2]} x {image.shape[3]}"
        )
    return (rows.shape[0], image.shape[1], ph, pw)


def image_shape(error, rows, columns, image_size) -> tuple[int, int, int, int]:
    """Shape 1 x C x H x W of the image gradient from patch gradients n x C x p x p."""
    checks.array("error", error, (None,) * 4)
    checks.array("rows", rows, (error.shape[0],), ("int32",))
    checks.array("columns", columns, (error.shape[0],), ("int32",))
    h, w = checks.pair("image_size", image_size)
    if error.shape[2] > h or error.shape[3] > w:
        raise ValueError(
            f"image_size is {h} x {w}; expected at least the patch's "
            f"{error.shape[2]} x {error.shape[3]}"
        )
    return (1, error.shape[1], h, w)


def check_inside(rows, columns, size: Pair, image_size: Pair) -> None:
    """Refuse patches of ``size`` that do not lie inside an image of ``image_size``; the ``rows``
    and ``columns`` of their top left pixels lie on the host."""
    checks.indices("rows", rows, image_size[0] - size[0] + 1)
    checks.indices("columns", columns, image_size[1] - size[1] + 1)
