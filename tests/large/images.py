"""A net, an image in whatever it may lie in, and what is written of its labels."""

from pathlib import Path

import numpy as np
import tifffile
import zarr
from PIL import Image

from net import Dense, Net
from net.images import net_input
from net.large.sinks import probabilities_path
from net.layers import Convolution, FullyConnected, MaxPool, ReLU
from net.usage import LabelRule, Normalization, Usage

SIZE = (67, 101)
CHANNELS = 3
BORDERS = ("valid", "zero", "reflect")
LAYERS = [Convolution(4, (3, 2)), ReLU(), MaxPool((2, 3)), Convolution(5, 2), ReLU()]
USAGE = Usage(
    normalization=Normalization((100, 110, 120), (50, 51, 52.5)),
    class_names=("cell", "rim", "rest"),
    colors=((255, 0, 0), (0, 255, 0), (0, 0, 255)),
    label_rule=LabelRule(unlabelled=7, values=(0, 3, 300)),
)


def net_of(patch=(8, 9), backend="cpu", usage=USAGE, **options):
    net = Net([*LAYERS, FullyConnected(3)], channels=CHANNELS, patch=patch, backend=backend)
    net.usage = usage
    return net


def image_of(size=SIZE, seed=0):
    """H x W x C, uint8."""
    return np.random.default_rng(seed).integers(0, 256, (*size, CHANNELS), np.uint8)


def labels_of(net, image, border, where=None):
    """(label values, probabilities) of the whole image in one pass, as large as the image."""
    top, left = ((p - 1) // 2 if border == "valid" else 0 for p in net.patch)
    dense = Dense(net, border)
    height, width = dense.output_size(image.shape[:2])
    place = np.s_[top : top + height, left : left + width]
    mask = None if where is None else np.ascontiguousarray(where[place])
    labelled, shares = dense.predict(net_input(net, image, "last"), mask=mask)
    classes = np.full(image.shape[:2], -1)
    classes[place] = labelled
    probabilities = np.full((len(shares), *image.shape[:2]), np.nan, np.float32)
    probabilities[:, *place] = shares
    return net.usage.label_rule.encoded(classes, 3), probabilities


def read(path: Path):
    """All of what a sink holds."""
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".zarr":
        return zarr.open_group(path, mode="r")["0"][...]
    return tifffile.imread(path)


def written(out: Path):
    """(labels, probabilities) in files."""
    return read(out), read(probabilities_path(out))


class Sliced:
    """What has shape, dtype and slicing, and nothing else."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, place):
        return self.array[place]


def _tiff(name, **options):
    def save(folder, image):
        path = folder / name
        tifffile.imwrite(path, image, photometric="rgb", **options)
        return path

    return save


def _pages(folder, image):
    path = folder / "pages.tif"
    pages = np.ascontiguousarray(image.transpose(2, 0, 1))
    tifffile.imwrite(path, pages, photometric="minisblack", tile=(16, 32), metadata={"axes": "CYX"})
    return path


def _alpha(folder, image):
    path = folder / "alpha.tif"
    image = np.concatenate([image, image[..., :1]], axis=2)
    tifffile.imwrite(path, image, photometric="rgb", extrasamples=["unassalpha"], tile=(16, 16))
    return path


def _pyramid(folder, image):
    path = folder / "pyramid.ome.tif"
    options = {"photometric": "rgb", "tile": (32, 32), "compression": "zlib"}
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(image, subifds=1, **options)
        writer.write(image[::2, ::2], subfiletype=1, **options)
    return path


def _grown(image, *chunk):
    """A chunk for small images, of large ones so much larger that there are not too many."""
    times = max(1, max(image.shape) // 300)
    return (*(n * times for n in chunk[:2]), *chunk[2:])


def _zarr(version, **chunks):
    def save(folder, image):
        path = folder / f"{version}.zarr"
        array = zarr.create_array(
            path,
            shape=image.shape,
            dtype=image.dtype,
            zarr_format=version,
            **{name: _grown(image, *chunk) for name, chunk in chunks.items()},
        )
        array[...] = image
        return path

    return save


def _ome_zarr(folder, image):
    path = folder / "ome.zarr"
    group = zarr.create_group(path, zarr_format=2)
    array = group.create_array(
        "full",
        shape=(1, 3, 1, *image.shape[:2]),
        dtype=image.dtype,
        chunks=(1, 1, 1, *_grown(image, 20, 30)),
    )
    array[0, :, 0] = image.transpose(2, 0, 1)
    axes = [{"name": name} for name in "tczyx"]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "full"}]}]
    return path


def _npy(folder, image):
    path = folder / "image.npy"
    np.save(path, np.asfortranarray(image))
    return path


def _png(folder, image):
    path = folder / "image.png"
    Image.fromarray(image).save(path)
    return path


def _dask(_, image):
    import dask.array

    return dask.array.from_array(image, chunks=_grown(image, 10, 17, 2))


SOURCES = {
    "an array": lambda _, image: image,
    "channels first": lambda _, image: np.moveaxis(image, 2, 0),
    "big-endian": lambda _, image: image.astype(">i2"),
    "sliced": lambda _, image: Sliced(image),
    "dask": _dask,
    "npy": _npy,
    "png": _png,
    "tiff in tiles": _tiff("tiled.tif", tile=(32, 16), compression="lzw"),
    "tiff in strips": _tiff("strips.tif", rowsperstrip=7, compression="zlib", byteorder=">"),
    "tiff in one run": _tiff("run.tif", byteorder=">"),
    "tiff of pages": _pages,
    "tiff with alpha": _alpha,
    "pyramid": _pyramid,
    "zarr 2": _zarr(2, chunks=(9, 13, 2)),
    "zarr 3": _zarr(3, chunks=(8, 8, 3), shards=(16, 24, 3)),
    "ome-zarr": _ome_zarr,
}
"""By name: makes of (folder, image H x W x C) what ``label`` takes."""
