"""Labels of an image in regions are those of one pass, bit for bit."""

import json

import dask
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from kernels import get_backend
from kernels.host.classes import NEAR, most_probable
from net import Dense, Net
from net.images import net_input
from net.large import View, label, layouts, lazy
from net.large.regions import Grid, ImageWindow, Region
from net.layers import Convolution, FullyConnected, Softmax
from net.learning.examples import ListedLabels
from net.learning.fitting import fit
from net.learning.optimizers import SGD
from net.learning.training import Trainer
from net.usage import Usage
from tests.large.images import BORDERS, SIZE, SOURCES, image_of, labels_of, net_of, read, written

pytestmark = pytest.mark.cpu

NAMES = ("labels.npy", "labels.zarr", "labels.tif")


@pytest.fixture(autouse=True)
def small_regions(monkeypatch):
    """Regions of 16 x 32 pixels."""
    monkeypatch.setattr(layouts, "SIDES", (16, 32))
    monkeypatch.setattr(
        layouts, "chosen", lambda *given: layouts.layout(*given[:2], (16, 32), given[2])
    )


def check(image, net, out, border, source=None, where=None):
    label(
        image if source is None else source,
        net,
        out,
        border=border,
        probabilities="float16",
        where=where,
    )
    classes, probabilities = labels_of(net, image, border, where)
    images = written(out)
    assert images[0].dtype == np.uint16
    np.testing.assert_array_equal(images[0], classes)
    np.testing.assert_array_equal(images[1], probabilities.astype(np.float16))


@pytest.mark.parametrize("source", SOURCES)
def test_every_source(source, tmp_path):
    image = image_of()
    check(image, net_of(), tmp_path / "labels.npy", "reflect", SOURCES[source](tmp_path, image))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("name", NAMES)
def test_every_sink(name, border, tmp_path):
    check(image_of(), net_of(), tmp_path / name, border)


@pytest.mark.parametrize("size", [(1, 1), (16, 32), (17, 33), (50, 5), (4, 70)])
def test_fields_that_are_larger_than_regions_and_images(size, tmp_path):
    for border in ("zero", "reflect"):
        check(image_of(size), net_of(patch=(35, 40)), tmp_path / f"{border}.npy", border)


def test_where(tmp_path):
    image, where = image_of(), np.zeros(SIZE, np.uint8)
    where[20:40, 30:33] = 1
    where[:32, 64:96] = 255  # a whole region
    for border in BORDERS:
        check(image, net_of(), tmp_path / f"{border}.npy", border, where=where > 0)
    Image.fromarray(where).save(tmp_path / "mask.png")
    label(image, net_of(), tmp_path / "again.npy", where=tmp_path / "mask.png")
    np.testing.assert_array_equal(read(tmp_path / "again.npy"), read(tmp_path / "reflect.npy"))


def test_probabilities_in_bytes(tmp_path):
    label(image_of(), net_of(), tmp_path / "labels.npy", probabilities="uint8", border="valid")
    probabilities = labels_of(net_of(), image_of(), "valid")[1]
    expected = np.nan_to_num(np.rint(probabilities * np.float32(255))).astype(np.uint8)
    np.testing.assert_array_equal(written(tmp_path / "labels.npy")[1], expected)


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=pytest.mark.cpu)])
@pytest.mark.parametrize("ending", [[], [Softmax()]])
def test_classes_alone(backend, ending, tmp_path):
    """They are worked out without the probabilities."""
    layers = [Convolution(2, 3), FullyConnected(300), *ending]
    net, image = Net(layers, channels=1, patch=4, backend=backend), image_of()[..., :1]
    image = image.astype(np.float32)
    image[30, 40] = np.nan
    net.usage = Usage()
    label(image, net, tmp_path / "labels.npy")
    label(image, net, tmp_path / "both.npy", probabilities="float16")
    classes = Dense(net, "reflect").predict(image.transpose(2, 0, 1).copy())[0]
    for name in ("labels.npy", "both.npy"):
        np.testing.assert_array_equal(read(tmp_path / name), classes + 1)
    assert (classes == -1).sum() == 16


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_classes_of_scores_that_nearly_tie(dtype):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 9, (5, 60, 700)) * (np.finfo(dtype).eps / 4)
    scores[:, 30:] += rng.integers(0, 3, (1, 30, 700))
    scores = scores.astype(dtype)
    scores[:, :5] *= 1e3
    scores[2, 7, ::3], scores[0, 8, ::3], scores[:, 9] = np.nan, np.inf, -np.inf
    probabilities = get_backend("cpu").softmax.forward(scores[None])[0]
    expected = probabilities.argmax(axis=0) + 1
    expected[np.isnan(probabilities[0])] = 0
    classes, doubt = most_probable(scores, np.arange(1, 6, dtype=np.uint8), 0, NEAR[dtype])
    wrong = classes != expected
    assert wrong.any()
    assert not (wrong & ~doubt).any()


def test_lazy():
    net, image = net_of(), image_of()
    for border in BORDERS:
        classes, probabilities = lazy(
            SOURCES["dask"](None, image), net, border=border, probabilities="float16"
        )
        expected = labels_of(net, image, border)
        assert classes.chunksize == (16, 32)
        for scheduler in ("synchronous", "threads"):
            computed = dask.compute(classes, probabilities, scheduler=scheduler)
            np.testing.assert_array_equal(computed[0], expected[0])
            np.testing.assert_array_equal(computed[1], expected[1].astype(np.float16))
    np.testing.assert_array_equal(classes[20:30, 7:80].compute(), expected[0][20:30, 7:80])


def test_arrays_of_unknown_size_are_refused():
    da = pytest.importorskip("dask.array")
    image = da.from_array(image_of())
    with pytest.raises(ValueError, match=r"image has shape \(nan, 101, 3\); expected known"):
        lazy(image[image[:, 0, 0] > 99], net_of())


def test_a_window_reads_its_halo_and_no_more():
    net = net_of()
    region = Region(0, slice(20, 30), slice(90, 101))
    assert ImageWindow.of(net, "reflect", SIZE, region).read == (slice(17, 34), slice(86, 101))


def test_regions_cover_an_image_once():
    covered = np.zeros((50, 71), int)
    grid = Grid((50, 71), (16, 24))
    for region in grid:
        covered[region.rows, region.columns] += 1
    assert (covered == 1).all()
    assert sum(count for _, count in grid.kinds()) == len(grid)


class TestWhatViewersFind:
    """Colors, names of classes, pyramids and pictures of all."""

    @pytest.fixture(autouse=True)
    def large_regions(self, monkeypatch):
        monkeypatch.setattr(layouts, "SIDES", (64, 128))
        monkeypatch.setattr(
            layouts, "chosen", lambda *given: layouts.layout(*given[:2], (64, 128), given[2])
        )

    @pytest.mark.parametrize("name", ["a.zarr", "a.tif", "a.ome.tif", "a.npy"])
    def test_in(self, name, tmp_path):
        net, image = net_of(), image_of((70, 1101))
        label(image, net, tmp_path / name)
        classes = labels_of(net, image, "reflect")[0]
        np.testing.assert_array_equal(read(tmp_path / name), classes)
        picture = np.asarray(Image.open(tmp_path / "a.overview.png"))
        table = {0: (255, 0, 0), 3: (0, 255, 0), 300: (0, 0, 255)}
        assert picture.shape == (35, 551, 3)
        assert tuple(picture[3, 5]) == table[classes[6, 10]]
        if name.endswith(".zarr"):
            group = zarr.open_group(tmp_path / name, mode="r")
            ome = group.attrs["ome"]
            np.testing.assert_array_equal(group["2"][...], classes[::4, ::4])
            assert ome["multiscales"][0]["datasets"][2]["path"] == "2"
            assert ome["image-label"]["properties"][1] == {"label-value": 3, "class": "rim"}
            assert ome["image-label"]["colors"][2] == {
                "label-value": 300,
                "rgba": [0, 0, 255, 255],
            }
        elif name != "a.npy":
            with tifffile.TiffFile(tmp_path / name) as tiff:
                levels = tiff.series[0].levels
                assert [level.shape for level in levels] == [(70, 1101), (35, 551), (18, 276)]
                np.testing.assert_array_equal(levels[2].asarray(), classes[::4, ::4])
                assert tiff.pages[0].colormap[:, 300].tolist() == [0, 0, 65535]
                if tiff.is_ome:
                    assert '<M K="300">rest</M>' in tiff.ome_metadata
                else:
                    said = json.loads(tiff.pages[0].description)
                    assert said["classes"] == {"0": "cell", "3": "rim", "300": "rest"}


class TestViews:
    """Images to learn from, which are read where labelled pixels look."""

    PIXELS = np.array([[0, 3], [66, 100], [30, 41], [31, 44]])
    LABELS = np.array([0, 1, 2, 1])

    def learned(self, image):
        trainer = Trainer(net_of(), SGD(0.1), border="reflect", seed=3)
        given = image(trainer.net)
        examples = [given], [ListedLabels(self.PIXELS, self.LABELS)]
        fit(trainer, examples, epochs=3, pixels=4, progress=False)
        return trainer.net.state()

    @pytest.mark.parametrize("source", ["tiff in tiles", "zarr 3", "dask", "sliced"])
    def test_learn_the_same_bits(self, source, tmp_path):
        made = SOURCES[source](tmp_path, image_of())
        learned = self.learned(lambda net: View(made, net))
        expected = self.learned(lambda net: net_input(net, image_of()))
        for name in expected:
            assert learned[name].tobytes() == expected[name].tobytes()
        assert any((net_of().state()[name] != learned[name]).any() for name in learned)

    def test_give_windows_alone(self):
        view = View(image_of(), net_of())
        whole = net_input(net_of(), image_of())
        np.testing.assert_array_equal(view[1:, 60:90, 5:7], whole[1:, 60:90, 5:7])
        for place in (3, (slice(None), 3, slice(None)), (slice(None), slice(0, 9, 2), slice(3))):
            with pytest.raises((TypeError, ValueError), match="place is"):
                view[place]
