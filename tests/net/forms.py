"""Running a net in both of its forms on the same pixels."""

from dataclasses import dataclass

import numpy as np

from net import Dense, Scan
from tests.comparison import relative_difference


@dataclass(frozen=True)
class Result:
    """What one form gives for chosen pixels.

    Attributes:
        scores: n x K.
        gradients: of sum(error * scores), by parameter name; by ``"image"`` that of the image.
    """

    scores: np.ndarray
    gradients: dict[str, np.ndarray]


def dense(net, image, pixels, error, border="valid"):
    """The dense form's result; the error map is NaN wherever no pixel is chosen."""
    form = Dense(net, border)
    scores = form.forward(image)
    rows, columns = pixels.T
    errors = np.full(scores.shape, np.nan, net.dtype)
    errors[:, rows, columns] = error.T
    mask = np.zeros(scores.shape[1:], bool)
    mask[rows, columns] = True
    gradients = form.gradients(image, errors, mask, image_gradient=True)
    return Result(scores[:, rows, columns].T, {**gradients.parameters, "image": gradients.image})


def scan(net, image, pixels, error, border="valid", batch=4):
    """The patch-by-patch result."""
    form = Scan(net, border, batch)
    gradients = form.gradients(image, error, pixels, image_gradient=True)
    gradients = {**gradients.parameters, "image": gradients.image}
    return Result(form.forward(image, pixels), gradients)


def random_error(net, pixels, seed=4):
    """n x K errors of the net's dtype."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((len(pixels), net.output.channels)).astype(net.dtype)


def differences(gradients, expected, *, above):
    """Those relative differences, by name, that are larger than ``above``."""
    assert gradients.keys() == expected.keys()
    largest = {name: relative_difference(gradients[name], expected[name]) for name in expected}
    return {name: difference for name, difference in largest.items() if not difference <= above}
