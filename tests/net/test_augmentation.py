"""Augmentation: labels stay with their pixels, whatever the patch, and runs stay reproducible."""

import numpy as np
import pytest

from kernels.cross_entropy import UNLABELLED
from net import Net
from net.images import patch_margins
from net.layers import Convolution
from net.learning import checkpoint
from net.learning.augmentation import Augmentation
from net.learning.examples import ExamplePreparer
from net.learning.fitting import fit
from net.learning.optimizers import SGD
from net.learning.training import Trainer
from tests.net.learning import run_for, small_net


def trainer(patch=(4, 3), border="valid", dtype="float32"):
    net = Net([Convolution(2, patch)], channels=1, patch=patch, dtype=dtype, backend="reference")
    return Trainer(net, SGD(0.1), border=border, seed=7)


def an_image(size=(9, 12), dtype="float32"):
    return np.random.default_rng(1).random((1, *size)).astype(dtype)


@pytest.mark.parametrize("border", ["valid", "zero"])
@pytest.mark.parametrize("patch", [(4, 3), (3, 6), (2, 2), (5, 5)])
def test_labels_stay_with_the_centres_of_their_patches(patch, border):
    image, preparer = an_image(), ExamplePreparer(trainer(patch, border), Augmentation())
    labels = (image[0] > 0.5).astype(int)
    top, left, _, _ = patch_margins(patch) if border == "valid" else (0, 0, 0, 0)
    numbers = set()
    for step in range(24):
        turned, turned_labels = preparer.of_step(image, labels, None, step, 0)
        rows, columns = np.nonzero(turned_labels != UNLABELLED)
        centres = turned[0, rows + top, columns + left]
        assert (turned_labels[rows, columns] == (centres > 0.5)).all()
        numbers.add(len(rows))
    assert len(numbers) == 1  # the same pixels count in every step


def test_a_map_that_was_cropped_first_would_be_shifted():
    """What the full size is for: even patches are not symmetric, odd ones are."""
    image = an_image()
    for patch, shifted in (((4, 4), True), ((5, 5), False)):
        top, left, bottom, right = patch_margins(patch)
        inner = (slice(top, -bottom), slice(left, -right))
        cropped_first = image[0][inner][::-1, ::-1]
        cropped_last = image[0][::-1, ::-1][inner]
        assert (cropped_first != cropped_last).all() == shifted


def test_labels_and_masks_of_both_sizes_give_the_same_bits():
    image = an_image()
    labels = np.random.default_rng(2).integers(-1, 2, image.shape[1:])
    mask = np.random.default_rng(3).random(labels.shape) < 0.7
    inner = (slice(1, -2), slice(1, -1))  # of a patch of 4 x 3
    weights = []
    for of_image in (True, False):
        given = [one if of_image else one[inner] for one in (labels, mask)]
        one = trainer()
        masks = [given[1]]
        for pixels, epochs in ((9, 2), (masks, 4)):
            options = {"augmentation": Augmentation(), "progress": False}
            fit(one, ([image], [given[0]]), epochs=epochs, pixels=pixels, **options)
        weights.append(one.net.parameters["conv1.weights"].tobytes())
    assert weights[0] == weights[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_brightness_contrast_and_noise_are_drawn_within_their_limits(dtype):
    image, labels = np.ones((2, 30, 20), dtype), np.zeros((30, 20), int)
    augmentation = Augmentation(turns=False, flips=False, brightness=0.5, contrast=1, noise=0)
    values = []
    for seed in range(200):
        changed, same = augmentation(image, labels, np.random.default_rng(seed))
        assert changed.dtype == image.dtype
        assert (np.ptp(changed, axis=(1, 2)) == 0).all()
        assert changed[0, 0, 0] != changed[1, 0, 0]  # each channel has a brightness of its own
        assert (same == labels).all()
        values.append(changed[0, 0, 0])
    assert 0 <= min(values) < 0.4  # 1 / 2 - 0.5
    assert 2.1 < max(values) <= 2.5  # 1 * 2 + 0.5
    noisy = Augmentation(noise=0.25)(image, labels, np.random.default_rng(0))[0]
    assert noisy.dtype == image.dtype
    assert abs(noisy.std() - 0.25) < 0.03


def test_all_eight_orientations_occur():
    image = an_image((4, 4))
    labels = np.arange(16).reshape(4, 4)
    drawn = [Augmentation()(image, labels, np.random.default_rng(i))[1] for i in range(100)]
    assert len({one.tobytes() for one in drawn}) == 8
    unflipped = Augmentation(flips=False)
    drawn = [unflipped(image, labels, np.random.default_rng(i))[1] for i in range(100)]
    assert len({one.tobytes() for one in drawn}) == 4


def test_an_image_that_is_too_small_once_it_is_turned_is_refused():
    image = an_image((4, 9))
    one = trainer((3, 6))
    data = [image], [np.arange(36).reshape(4, 9) % 2]
    with pytest.raises(ValueError, match="examples image 0, turned, is 9 x 4; with border 'valid'"):
        fit(one, data, epochs=1, pixels=3, augmentation=Augmentation())
    fit(one, data, epochs=1, pixels=3, augmentation=Augmentation(turns=False), progress=False)


@pytest.mark.cpu
def test_a_resumed_run_goes_on_to_the_same_bits(tmp_path):
    """Augmented, with several steps on each image and early stopping."""
    options = {
        "augmentation": Augmentation(brightness=0.1, contrast=0.1, noise=0.05),
        "repeats": 2,
        "patience": 2,
    }
    runs = []
    for stops in ((9,), (1, 2, 9)):
        path = tmp_path / f"{len(stops)}.safetensors"
        one = Trainer(small_net(), SGD(0.3, momentum=0), seed=3)
        for epochs in stops:
            run_for(epochs, path, one, **options, best=tmp_path / "best")
            one = checkpoint.load(path, backend="cpu")
        runs.append((path.read_bytes(), (tmp_path / "best").read_bytes()))
        assert len(one.history) < 9  # it was stopped
    assert runs[0] == runs[1]
