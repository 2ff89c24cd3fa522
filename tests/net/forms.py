"""Running a net in both of its forms on the same pixels."""

from dataclasses import dataclass

import numpy as np
import pytest

from net import Dense, Scan, needed_choice
from net.patches_pass import PatchesPass
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
    scores, (errors, mask) = form.forward(image), _masked(form, image, pixels, error)
    gradients = form.gradients(image, errors, mask, image_gradient=True, everywhere=True)
    return _result(scores, pixels, gradients)


def over_lists_alone(patch: pytest.MonkeyPatch) -> None:
    """From now on passes of chosen pixels run over lists, whatever these cost."""
    patch.setattr(needed_choice._Choice, "is_cheaper", True)
    patch.setattr(PatchesPass, "suits", lambda net: False)


def needed(net, image, pixels, error, border="valid"):
    """The result of a pass over the cells that the pixels need, however many they are."""
    form = Dense(net, border)
    errors, mask = _masked(form, image, pixels, error)
    with pytest.MonkeyPatch.context() as patch:
        over_lists_alone(patch)
        scores = form.forward(image, mask)
        gradients = form.gradients(image, errors, mask, image_gradient=True)
    assert np.isnan(scores[:, ~mask]).all()
    return _result(scores, pixels, gradients)


def listed(net, image, pixels, error, border="valid"):
    """As ``needed``, of pixels that are listed."""
    form = Dense(net, border)
    with pytest.MonkeyPatch.context() as patch:
        over_lists_alone(patch)
        scores = form.forward(image, pixels=pixels)
        error = np.ascontiguousarray(error.T)
        gradients = form.gradients(image, error, pixels=pixels, image_gradient=True)
    return Result(scores.T, {**gradients.parameters, "image": gradients.image})


def _masked(form, image, pixels, error):
    """(error map, NaN wherever no pixel is chosen; mask)."""
    size = form.output_size(image.shape[1:])
    rows, columns = pixels.T
    errors = np.full((error.shape[1], *size), np.nan, form.net.dtype)
    errors[:, rows, columns] = error.T
    mask = np.zeros(size, bool)
    mask[rows, columns] = True
    return errors, mask


def _result(scores, pixels, gradients):
    rows, columns = pixels.T
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
