"""docs/large-images.md does what it says: its blocks run in their order, in an empty folder."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.cpu
def test_every_block_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, page = {}, (DOCS / "large-images.md").read_text()
    for language, block in re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL):
        if language == "python":
            exec(compile(block, "large-images.md", "exec"), names)
        else:
            # In a process of its own: --memory is of all that the process has
            subprocess.run([sys.executable, *shlex.split(block)[1:]], check=True)
    labels = tifffile.imread("labelled/slide.ome.tif")
    picture = np.asarray(Image.open("labelled/slide.overview.png"))
    np.testing.assert_array_equal(picture, np.asarray(Image.open(DOCS / "large-images.png")))
    shares = np.bincount(labels.ravel()) / labels.size
    assert 0.05 < shares[2] < 0.6
    of_zarr = zarr.open_group("python/slide.zarr")["0"][...]
    np.testing.assert_array_equal(of_zarr, labels)
    some = np.load("some/slide.npy")
    np.testing.assert_array_equal(some, np.where(names["tissue"], labels, 0))
    mosaic = zarr.open_group("python/mosaic.zarr")["0"][...]
    np.testing.assert_array_equal(mosaic[100:150, 500:540], names["found"])
