"""``net.PixelClassifier`` after scikit-learn's conventions."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.utils.estimator_checks import estimator_checks_generator

from net import Dense, Net, PixelClassifier, load
from net.images import net_input
from net.layers import Convolution, FullyConnected, ReLU

pytestmark = pytest.mark.filterwarnings("ignore::net.learning.records.TrainingWarning")

HOLDING = {
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
}
TABLES = (
    "fits a table of samples x features with a label for each row; here a sample is an image, and "
    "its label is a map"
)
CANNOT_HOLD = dict.fromkeys(
    (
        "check_array_api_input",
        "check_complex_data",
        "check_dict_unchanged",
        "check_dont_overwrite_parameters",
        "check_dtype_object",
        "check_estimator_sparse_array",
        "check_estimator_sparse_matrix",
        "check_estimator_sparse_tag",
        "check_estimators_dtypes",
        "check_estimators_empty_data_messages",
        "check_estimators_fit_returns_self",
        "check_estimators_nan_inf",
        "check_estimators_overwrite_params",
        "check_estimators_partial_fit_n_features",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_fit1d",
        "check_fit2d_1feature",
        "check_fit2d_1sample",
        "check_fit2d_predict1d",
        "check_fit_check_is_fitted",
        "check_fit_idempotent",
        "check_fit_score_takes_y",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_n_features_in",
        "check_n_features_in_after_fitting",
        "check_pipeline_consistency",
        "check_positive_only_tag_during_fit",
        "check_readonly_memmap_input",
    ),
    TABLES,
)


def tiny(classes, channels, **options):
    layers = [Convolution(6, 4), ReLU(), FullyConnected(classes)]
    return Net(layers, channels=channels, patch=5, **options)


def classifier(**options):
    return PixelClassifier(tiny, **{"steps": 30, "rate": 0.03, "backend": "reference"} | options)


def examples(number=2, channels=(), seed=0):
    """Bright pixels are 7, dark ones 2, some of each are labelled."""
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for i in range(number):
        image = rng.integers(0, 256, (14, 11 + i, *channels), np.uint8)
        grey = image if not channels else image[..., 0]
        truth = np.where(grey > 150, 7, np.where(grey < 100, 2, 0))
        images.append(image)
        labels.append(np.where(rng.random(truth.shape) < 0.5, truth, 0).astype(np.uint8))
    return images, labels


@pytest.mark.parametrize("channels", [(), (3,)])
def test_it_learns_and_its_maps_have_the_values_of_the_labels(channels):
    images, labels = examples(channels=channels)
    fitted = classifier()
    assert fitted.fit(images, labels) is fitted
    assert fitted.classes_.tolist() == [2, 7]
    maps, probabilities = fitted.predict(images), fitted.predict_proba(images)
    for image, classes, shares in zip(images, maps, probabilities):
        assert classes.shape == image.shape[:2]
        assert shares.shape == (*image.shape[:2], 2)
        np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-6)
        assert (fitted.classes_[shares.argmax(axis=-1)] == classes).all()
    right = [(one == truth)[truth > 0] for one, truth in zip(maps, labels)]
    assert fitted.score(images, labels) == np.concatenate(right).mean() > 0.9
    assert fitted.metrics(images, labels).confusion.sum() == sum((one > 0).sum() for one in labels)
    assert (fitted.predict(images[0]) == maps[0]).all()


def test_one_image_may_stand_alone_and_the_same_fit_gives_the_same_bits():
    images, labels = examples(1)
    one, other = (classifier().fit(*pair) for pair in ((images[0], labels[0]), (images, labels)))
    assert (one.predict_proba(images[0]) == other.predict_proba(images)[0]).all()
    third = classifier(random_state=1).fit(images, labels)
    assert (third.predict_proba(images[0]) != one.predict_proba(images[0])).any()


def test_the_net_can_be_saved_and_used_alone(tmp_path):
    images, labels = examples()
    fitted = classifier().fit(images, labels)
    fitted.net_.save(tmp_path / "net.safetensors")
    net = load(tmp_path / "net.safetensors", backend="reference")
    x = net_input(net, images[1])
    classes = Dense(net, net.usage.border).predict(x)[0]
    assert (net.usage.label_rule.encoded(classes, 2) == fitted.predict(images[1])).all()
    assert net.usage.training["labelled_pixels"] == [
        sum(int((one == value).sum()) for one in labels) for value in (2, 7)
    ]


def test_parameters_clones_and_what_is_not_fitted():
    original = classifier(steps=7)
    copied = clone(original.set_params(pixels=9))
    assert copied.get_params() == original.get_params()
    assert (copied.steps, copied.pixels) == (7, 9)
    for method in (copied.predict, copied.predict_proba):
        with pytest.raises(NotFittedError):
            method(examples()[0])
    with pytest.raises(NotFittedError):
        copied.score(*examples())
    with pytest.raises(ValueError, match="Invalid parameter 'depth'"):
        copied.set_params(depth=3)


@pytest.mark.parametrize("cv", [3, KFold(2)])
def test_cross_validation_and_search(cv):
    images, labels = examples(4)  # of different sizes
    scores = cross_val_score(classifier(), images, labels, cv=cv)
    assert len(scores) == (cv if isinstance(cv, int) else 2)
    assert scores.min() > 0.6
    search = GridSearchCV(classifier(steps=3), {"steps": [1, 30]}, cv=KFold(2))
    assert search.fit(images, labels).best_params_ == {"steps": 30}


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (lambda x: x, lambda y: y[:1], "2 images and 1 label maps"),
        (lambda x: x, lambda y: [y[0], y[1][:3]], r"labels\[1\] has shape \(3, 12\)"),
        (lambda x: x, lambda y: [one * 0 for one in y], r"labels hold the classes \[\]"),
        (lambda x: x, lambda y: [-one.astype(int) for one in y], "labels hold -7; expected 0"),
        (lambda x: [x[0], np.stack([x[1]] * 3, -1)], lambda y: y, r"images have \[1, 3\] channels"),
        (lambda x: [x[0], x[1] * np.nan], lambda y: y, r"images\[1\] holds NaN"),
    ],
)
def test_refused(images, labels, message):
    given = examples()
    with pytest.raises(ValueError, match=message):
        classifier().fit(images(given[0]), labels(given[1]))


def test_a_nan_to_predict_on_is_refused():
    images, labels = examples()
    fitted = classifier(steps=1).fit(images, labels)
    with pytest.raises(ValueError, match=r"images\[0\] holds NaN"):
        fitted.predict([images[0] * np.nan])


def _checks():
    for estimator, check in estimator_checks_generator(classifier(steps=1)):
        yield (check.func if isinstance(check, partial) else check).__name__, estimator, check


def test_scikit_learns_checks_hold_or_have_a_reason_not_to():
    checks = list(_checks())
    assert {name for name, *_ in checks} <= HOLDING | CANNOT_HOLD.keys()
    for name, estimator, check in checks:
        if name in HOLDING:
            check(estimator)


def test_without_scikit_learn_only_the_classifier_is_missing():
    program = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import net, net.learning.runs\n"
        "try: net.PixelClassifier\n"
        "except ImportError as error: print(error)\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert shown.stdout == (
        "net.PixelClassifier needs scikit-learn: pip install 'regularly-sparse[learn]'\n"
    )
