"""Images as large as they come: thousands of rows from everything into everything, and 1.6 * 10^9
pixels under a limit of 2 GB."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from net.large import label
from net.large.journal import journal_path, noted
from tests.large.images import SOURCES, image_of, labels_of, net_of, read
from tests.large.limited import LIMIT

pytestmark = [pytest.mark.cpu, pytest.mark.long]

ROOT = Path(__file__).parents[2]
SIZE, OFFSET = (5987, 6007), (13, 7)


@pytest.fixture(scope="module")
def expected():
    """(image, labels) where rows and columns begin and end at primes."""
    place = tuple(slice(at, at + n) for at, n in zip(OFFSET, SIZE))
    image = image_of((6000, 6015))[place]
    return image, labels_of(net_of(), np.ascontiguousarray(image), "reflect")[0]


def check(expected, source, out):
    label(source, net_of(), out, memory="1.5 GB")
    assert read(out).tobytes() == expected[1].tobytes()


@pytest.mark.parametrize("source", SOURCES)
def test_every_source(source, expected, tmp_path):
    check(expected, SOURCES[source](tmp_path, expected[0]), tmp_path / "labels.npy")


@pytest.mark.parametrize("name", ["labels.zarr", "labels.tif", "labels.ome.tif"])
def test_every_sink(name, expected, tmp_path):
    check(expected, expected[0], tmp_path / name)


def synthetic(path, side):
    """A tiled TIFF of so many rows and columns, made tile by tile."""
    tile = np.random.default_rng(0).integers(0, 256, (256, 256), np.uint8)
    count = (-(-side // 256)) ** 2
    tiles = (np.roll(tile, 37 * number) for number in range(count))
    tifffile.imwrite(path, tiles, shape=(side, side), dtype=np.uint8, tile=(256, 256))


@pytest.mark.parametrize("side", [6_000, 40_000])
def test_under_a_limit(side, tmp_path):
    """Killed once and resumed; memory is the same for any size."""
    image, out = tmp_path / "image.tif", tmp_path / "labels.tif"
    synthetic(image, side)
    command = [sys.executable, "-m", "tests.large.limited", str(image), str(out)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as running:
        while len(noted(journal_path(out))) < 3:
            assert running.poll() is None
            time.sleep(0.1)
        running.kill()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    said = json.loads(done.stdout)
    print(said)
    assert 3 <= said["before"] < said["after"] == said["regions"]
    assert said["peak_bytes"] < LIMIT
    with tifffile.TiffFile(out) as tiff:
        assert tiff.series[0].shape == (side, side)
