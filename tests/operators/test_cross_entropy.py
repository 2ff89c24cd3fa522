"""Cross-entropy against the reference, and the reference against literal numbers."""

import numpy as np
import pytest

from kernels.cross_entropy import UNLABELLED
from tests.comparison import DTYPES, FORWARD, GRADIENT, REFERENCE, assert_matches_reference, call
from tests.finite_differences import assert_gradient
from tests.refusals import assert_refused, refusals

SMALL = [(1, 1, 1, 1), (2, 3, 5, 7), (3, 17, 2, 1)]
REAL = [(1, 8, 123, 97), (256, 3, 1, 1), (5, 200, 3, 4)]
NAN = np.nan
EPS = np.finfo(np.float32).eps


def labelled(rng, shape, chosen=0.5):
    """Labels, some unknown, and a mask for scores of ``shape``."""
    n, classes, h, w = shape
    labels = rng.integers(UNLABELLED, classes, (n, h, w)).astype(np.int32)
    return labels, rng.random((n, h, w)) < chosen


def check(backend, scores, labels, mask, weights):
    dtype = str(scores.dtype)
    within = {"tolerance": FORWARD[dtype]}
    assert_matches_reference(backend, "cross_entropy.total_weight", labels, mask, weights, **within)
    total = REFERENCE.cross_entropy.total_weight(labels, mask, weights).astype(dtype)
    arguments = (scores, labels, mask, weights, total)
    assert_matches_reference(backend, "cross_entropy.forward", *arguments, **within)
    within = {"tolerance": GRADIENT[dtype]}
    assert_matches_reference(backend, "cross_entropy.backward", *arguments, **within)


@pytest.mark.parametrize("dtype", DTYPES)
class TestAgainstReference:
    @pytest.mark.parametrize("shape", SMALL, ids=str)
    def test_small(self, backend, rng, shape, dtype):
        scores = 5 * rng.standard_normal(shape, dtype)
        labels, mask = labelled(rng, shape)
        labels.flat[0], mask.flat[0] = 0, True
        check(backend, scores, labels, mask, rng.random(shape[1]).astype(dtype))

    @pytest.mark.parametrize("shape", REAL, ids=str)
    def test_every_size(self, fast_backend, rng, shape, dtype):
        scores = 5 * rng.standard_normal(shape, dtype)
        check(fast_backend, scores, *labelled(rng, shape), rng.random(shape[1]).astype(dtype))

    def test_nan_at_a_chosen_pixel_spoils_the_loss_and_its_own_error_only(
        self, backend, rng, dtype
    ):
        scores = rng.standard_normal((1, 3, 2, 3), dtype)
        scores[0, 1, 1, 2] = NAN
        labels, mask = np.zeros((1, 2, 3), np.int32), np.ones((1, 2, 3), bool)
        weights, total = np.ones(3, dtype), np.full(1, 6, dtype)
        arguments = (scores, labels, mask, weights, total)
        assert np.isnan(call(backend, "cross_entropy.forward", *arguments))
        error = call(backend, "cross_entropy.backward", *arguments)
        expected = np.zeros(error.shape, bool)
        expected[0, :, 1, 2] = True
        np.testing.assert_array_equal(np.isnan(error), expected)


class TestRounding:
    """What float32 could lose beyond the rounding of each term."""

    PIXELS = 1_000_000

    def equal_pixels(self, weight):
        labels = np.zeros((1, 1, self.PIXELS), np.int32)
        return labels, np.ones(labels.shape, bool), np.array([weight, 1], np.float32)

    def test_total_weight_of_many_equal_pixels(self, fast_backend):
        arguments = self.equal_pixels(0.1)
        total = call(fast_backend, "cross_entropy.total_weight", *arguments)
        np.testing.assert_allclose(total, self.PIXELS * np.float64(np.float32(0.1)), rtol=3e-7)

    def test_loss_of_many_equal_pixels(self, fast_backend):
        scores = np.zeros((1, 2, 1, self.PIXELS), np.float32)
        scores[0, 0] = 0.1
        total = np.array([self.PIXELS], np.float32)
        arguments = (scores, *self.equal_pixels(1), total)
        loss = call(fast_backend, "cross_entropy.forward", *arguments)
        expected = np.log1p(np.exp(-np.float64(np.float32(0.1))))
        np.testing.assert_allclose(loss, [expected], rtol=3e-7)

    def far_apart(self, rng):
        """Up to 40 between the scores of a pixel, in steps whose differences are exact."""
        scores = rng.integers(-20 * 1024, 20 * 1024, (1, 4, 6, 7)).astype(np.float32) / 1024
        return scores, rng.integers(0, 4, (1, 6, 7)).astype(np.int32)

    def test_each_error_to_a_few_units_in_the_last_place(self, backend, rng):
        scores, labels = self.far_apart(rng)
        rest = np.ones(labels.shape, bool), np.array([1, 2, 4, 0.5], np.float32), np.ones(1, "f4")
        expected = REFERENCE.cross_entropy.backward(scores, labels, *rest)
        error = call(backend, "cross_entropy.backward", scores, labels, *rest)
        np.testing.assert_allclose(error, expected, rtol=4 * EPS)
        probable = (expected > -1e-4) & (expected < 0)
        assert probable.any(), "no label is nearly certain"

    def test_the_loss_of_each_pixel_too(self, backend, rng):
        scores, labels = self.far_apart(rng)
        of_one = np.ones((1, 1, 1), bool), np.ones(4, np.float32), np.ones(1, np.float32)
        smallest = np.inf
        for y, x in ((0, 0), *np.argwhere(scores.argmax(axis=1)[0] == labels[0])):
            pixel = (
                scores[:, :, y : y + 1, x : x + 1].copy(),
                labels[:, y : y + 1, x : x + 1].copy(),
            )
            loss = call(backend, "cross_entropy.forward", *pixel, *of_one)
            expected = REFERENCE.cross_entropy.forward(*pixel, *of_one)
            np.testing.assert_allclose(loss, expected, rtol=4 * EPS)
            smallest = min(smallest, expected[0])
        assert smallest < 1e-4


class TestByHand:
    """Two pixels count, of weights 1 and 3; a third is unlabelled, a fourth not chosen."""

    scores = np.log([[1.0, 3, 1, NAN], [1, 1, 5, NAN]]).reshape(1, 2, 1, 4)
    labels = np.array([0, 1, UNLABELLED, 0], np.int32).reshape(1, 1, 4)
    mask = np.array([True, True, True, False]).reshape(1, 1, 4)
    weights = np.array([1.0, 3.0])

    def test_total_weight(self, any_backend):
        arguments = (self.labels, self.mask, self.weights)
        assert call(any_backend, "cross_entropy.total_weight", *arguments) == [4]

    def test_loss(self, any_backend):
        arguments = (self.scores, self.labels, self.mask, self.weights, np.array([4.0]))
        loss = call(any_backend, "cross_entropy.forward", *arguments)
        np.testing.assert_allclose(loss, [(np.log(2) + 3 * np.log(4)) / 4], rtol=1e-14)

    def test_error_map(self, any_backend):
        arguments = (self.scores, self.labels, self.mask, self.weights, np.array([4.0]))
        error = call(any_backend, "cross_entropy.backward", *arguments)
        expected = np.array([[-0.125, 0.5625, 0, 0], [0.125, -0.5625, 0, 0]])
        np.testing.assert_allclose(error[0, :, 0], expected, rtol=1e-14)

    def test_a_label_that_is_nearly_certain(self, any_backend):
        scores, labels = np.array([20.0, 0]).reshape(1, 2, 1, 1), np.zeros((1, 1, 1), np.int32)
        rest = labels, np.ones((1, 1, 1), bool), np.ones(2), np.ones(1)
        loss = call(any_backend, "cross_entropy.forward", scores, *rest)
        np.testing.assert_allclose(loss, [2.061153620314381e-09], rtol=1e-14)
        error = call(any_backend, "cross_entropy.backward", scores, *rest)
        np.testing.assert_allclose(
            error.ravel(), [-2.061153618190204e-09, 2.061153618190204e-09], rtol=1e-14
        )

    def test_a_label_that_is_no_class_does_not_count(self, any_backend):
        labels = np.array([0, 1, 2, -(2**31)], np.int32).reshape(1, 1, 4)
        arguments = labels, np.ones((1, 1, 4), bool), self.weights
        assert call(any_backend, "cross_entropy.total_weight", *arguments) == [4]
        arguments = (self.scores, *arguments, np.array([4.0]))
        loss = call(any_backend, "cross_entropy.forward", *arguments)
        np.testing.assert_allclose(loss, [(np.log(2) + 3 * np.log(4)) / 4], rtol=1e-14)
        assert not call(any_backend, "cross_entropy.backward", *arguments)[..., 2:].any()

    def test_no_pixel_counts(self, any_backend):
        nothing = np.zeros((1, 1, 4), bool)
        arguments = (self.labels, nothing, self.weights)
        assert call(any_backend, "cross_entropy.total_weight", *arguments) == [0]
        arguments = (self.scores, self.labels, nothing, self.weights, np.ones(1))
        assert not call(any_backend, "cross_entropy.backward", *arguments).any()


def test_gradient_by_finite_differences(any_backend, rng):
    scores = rng.standard_normal((2, 4, 2, 3))
    labels, mask = labelled(rng, scores.shape, chosen=0.8)
    weights = rng.random(4)
    total = call(any_backend, "cross_entropy.total_weight", labels, mask, weights)
    rest = (labels, mask, weights, total)
    assert_gradient(
        lambda scores: call(any_backend, "cross_entropy.forward", scores, *rest),
        call(any_backend, "cross_entropy.backward", scores, *rest),
        scores,
        np.ones(1),
        exhaustive=any_backend.name == "reference",
    )


LABELS = {"labels": np.zeros((2, 4, 5), np.int32), "mask": np.ones((2, 4, 5), bool)}
WEIGHTS = {"class_weights": np.ones(3)}
SCORES = {"scores": np.zeros((2, 3, 4, 5)), **LABELS, **WEIGHTS, "total": np.ones(1)}
CALLS = {
    "cross_entropy.total_weight": {**LABELS, **WEIGHTS},
    "cross_entropy.forward": SCORES,
    "cross_entropy.backward": SCORES,
}
REFUSALS = [
    (
        "cross_entropy.forward",
        {"class_weights": np.ones(4)},
        ValueError,
        "class_weights has shape 4; expected 3",
    ),
    (
        "cross_entropy.backward",
        {"labels": np.zeros((2, 4, 6), np.int32)},
        ValueError,
        "labels has shape 2 x 4 x 6; expected 2 x 4 x 5",
    ),
    (
        "cross_entropy.backward",
        {"total": np.ones(1, np.float32)},
        TypeError,
        "total has dtype float32; expected float64, the dtype of scores",
    ),
]


@pytest.mark.parametrize("refusal", refusals(CALLS, REFUSALS))
def test_refusal(any_backend, refusal):
    assert_refused(any_backend, refusal)
