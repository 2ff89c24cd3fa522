"""Files that labels are written to: any number of writers fill them in, each its own regions, and a
resumed run completes them."""

from __future__ import annotations

import io
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np

from kernels.checks import Pair
from net.extras import needed
from net.files import synchronize, write_atomically
from net.large.legend import Legend
from net.pictures.folders import stem_of

LARGEST_CHUNK = 512
SMALLEST_CHUNK = 16
"""Rows and columns of tiles and chunks."""
SMALLEST_LEVEL = 512
"""Rows or columns: a pyramid ends where its last level has no more of either."""


@dataclass(eq=False)
class Sink:
    """An image H x W of label values, or K x H x W of probabilities, in a file.

    Attributes:
        path: the file or folder.
        shape: shape of the image.
        dtype: dtype of its numbers.
        region: rows and columns of the regions that are written, multiples of ``SMALLEST_CHUNK``;
            those at the bottom and right may have fewer.
        legend: what the values mean, or which classes the probabilities are of.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    region: Pair
    legend: Legend

    def create(self) -> None:
        """Make the file if it is not there yet: whole, or not at all."""
        self.check()
        if self.path.exists():
            self._tidy()
            return
        temporary = self.path.with_name(f".{self.path.name}.new")
        with suppress(FileNotFoundError):
            shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink()
        self._create(temporary)
        for path in (*temporary.rglob("*"), temporary):
            synchronize(path)
        temporary.rename(self.path)
        synchronize(self.path.parent)

    def check(self) -> None:
        """Refuse, before any work, what cannot be written or resumed."""
        if self.path.exists():
            try:
                fits = self._fits()
            except Exception:  # whatever a decoder raises where a file is damaged
                fits = False
            if not fits:
                raise ValueError(
                    f"{self.path} is damaged or of another kind than its journal says; expected "
                    "what an earlier run has begun, or neither"
                )

    def _fits(self) -> bool:
        """Whether what is there is what ``create`` makes."""
        raise NotImplementedError

    def _create(self, path: Path) -> None:
        raise NotImplementedError

    def _tidy(self) -> None:
        """Remove what writers that were killed left beside the image."""

    def write(self, rows: slice, columns: slice, values: np.ndarray) -> None:
        """Write a region, and wait until it is on the disk."""
        raise NotImplementedError

    def reduced(self, factor: int) -> np.ndarray:
        """Label values of every ``factor``-th row and column; of a pyramid, read from the
        smallest level that has them."""
        raise NotImplementedError

    @cached_property
    def levels(self) -> list[int]:
        """By how much the levels of the pyramid are reduced, 1 first. Regions begin and end on the
        chunks of all of them."""
        factors = [1]
        while len(self.shape) == 2 and max(self.shape) > SMALLEST_LEVEL * factors[-1]:
            factor = 2 * factors[-1]
            if any(n % (factor * SMALLEST_CHUNK) for n in self.region):
                break
            factors.append(factor)
        return factors

    def level_shape(self, factor: int) -> tuple[int, ...]:
        """Shape of a level of the pyramid."""
        return (*self.shape[:-2], *(-(-n // factor) for n in self.shape[-2:]))

    def chunk(self, factor: int) -> Pair:
        """Rows and columns of the chunks of a level, which divide a region's."""
        return tuple(
            max(
                n
                for n in range(SMALLEST_CHUNK, LARGEST_CHUNK + 1, SMALLEST_CHUNK)
                if length // factor % n == 0
            )
            for length in self.region
        )

    def _parts(self, rows, columns, values):
        """(factor, first row, first column, values) of a region at each level."""
        for factor in self.levels:
            yield (
                factor,
                rows.start // factor,
                columns.start // factor,
                values[..., ::factor, ::factor],
            )


class NpySink(Sink):
    """An ``.npy`` file; what is not written yet is 0."""

    def _create(self, path):
        with path.open("wb") as file:
            header = {"descr": self.dtype.str, "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + prod(self.shape) * self.dtype.itemsize)

    def _fits(self):
        array = np.load(self.path, "r")
        return array.shape == self.shape and array.dtype == self.dtype

    def write(self, rows, columns, values):
        height, width = self.shape[-2:]
        item = self.dtype.itemsize
        begin = self.path.stat().st_size - prod(self.shape) * item
        with self.path.open("r+b", buffering=0) as file:
            for plane, part in enumerate(values.reshape(-1, *values.shape[-2:])):
                for row, line in enumerate(part, rows.start):
                    at = (plane * height + row) * width + columns.start
                    os.pwrite(file.fileno(), np.ascontiguousarray(line).data, begin + at * item)
            os.fdatasync(file.fileno())

    def reduced(self, factor):
        return np.array(np.load(self.path, "r")[::factor, ::factor])


class ZarrSink(Sink):
    """An OME-Zarr image, version 0.5 (Zarr 3), with its pyramid. A region is a shard: whoever
    writes one owns it whole."""

    def check(self):
        needed("zarr", f"writing {self.path}")
        super().check()

    def _fits(self):
        return all(
            array.shape == self.level_shape(factor)
            and array.dtype == self.dtype
            and array.shards[-2:] == tuple(n // factor for n in self.region)
            for factor, array in self._arrays.items()
        )

    def _create(self, path):
        zarr = needed("zarr", f"writing {self.path}")
        group = zarr.create_group(str(path))
        axes = [{"name": "c", "type": "channel"}] * (len(self.shape) - 2)
        axes += [{"name": name, "type": "space"} for name in "yx"]
        scales = []
        for number, factor in enumerate(self.levels):
            shard = tuple(n // factor for n in self.region)
            array = group.create_array(
                str(number),
                shape=self.level_shape(factor),
                dtype=self.dtype,
                chunks=(*(1 for _ in self.shape[:-2]), *self.chunk(factor)),
                shards=(*self.shape[:-2], *shard),
                fill_value=self._fill(),
                dimension_names=[axis["name"] for axis in axes],
            )
            for down in range(-(-self.shape[-2] // self.region[0])):
                self._shard(path, array, down, 0).parent.mkdir(parents=True)
            scale = [1.0] * (len(self.shape) - 2) + [float(factor)] * 2
            scales.append(
                {
                    "path": str(number),
                    "coordinateTransformations": [{"type": "scale", "scale": scale}],
                }
            )
        ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": scales}]}
        legend = self.legend
        if len(self.shape) == 2:
            ome["image-label"] = {
                "colors": [
                    {"label-value": value, "rgba": [*color, 255]}
                    for value, color in zip(legend.values, legend.colors)
                ],
                "properties": [
                    {"label-value": value, "class": name}
                    for value, name in zip(legend.values, legend.names)
                ],
            }
        else:
            ome["omero"] = {
                "channels": [
                    {"label": name, "color": "{:02X}{:02X}{:02X}".format(*color)}
                    for name, color in zip(legend.names, legend.colors)
                ]
            }
        group.attrs["ome"] = ome

    def _tidy(self):
        for path in self.path.rglob("*.partial"):
            path.unlink()

    def _fill(self):
        if len(self.shape) == 2:
            return self.legend.unlabelled
        return float("nan") if self.dtype.kind == "f" else 0

    @cached_property
    def _arrays(self):
        group = needed("zarr", f"writing {self.path}").open_group(str(self.path), mode="r+")
        return {factor: group[str(number)] for number, factor in enumerate(self.levels)}

    def write(self, rows, columns, values):
        for factor, top, left, part in self._parts(rows, columns, values):
            height, width = part.shape[-2:]
            self._arrays[factor][..., top : top + height, left : left + width] = part
        place = rows.start // self.region[0], columns.start // self.region[1]
        written = [self._shard(self.path, array, *place) for array in self._arrays.values()]
        written = [file for file in written if file.exists()]  # none of nothing but ``_fill``
        for path in (*written, *(file.parent for file in written)):
            synchronize(path)

    def _shard(self, path, array, down, across):
        """The file of a region's shard; its folder is there from the start."""
        key = array.metadata.encode_chunk_key((*(0 for _ in self.shape[:-2]), down, across))
        return path / array.path / key

    def reduced(self, factor):
        level = max(n for n in self.levels if n <= factor)
        return self._arrays[level][:: factor // level, :: factor // level]


class TiffSink(Sink):
    """A tiled TIFF with its pyramid (OME-TIFF where the name ends so), BigTIFF where 4 GB do not
    hold it. Its tiles are not compressed, so each has its place before anything is written."""

    def check(self):
        if self._is_ome and self.dtype.name == "float16":
            raise ValueError(f"{self.path}: OME-TIFF has no float16; expected the name of a TIFF")
        if len(self.shape) > 2 and self.shape[-1] == 1:  # tifffile takes rows for columns there
            raise ValueError(
                f"{self.path}: no TIFF holds planes of one column; expected .npy or .zarr"
            )
        super().check()

    def _fits(self):
        import tifffile

        with tifffile.TiffFile(self.path) as tiff:
            levels = tiff.series[0].levels
            levels_held = [(level.shape, level.dtype.newbyteorder("=")) for level in levels]
        ends = max(
            offsets.max() + prod(self.chunk(factor)) * self.dtype.itemsize
            for factor, offsets in self._offsets.items()
        )
        wanted = [(self.level_shape(factor), self.dtype) for factor in self.levels]
        return levels_held == wanted and ends <= self.path.stat().st_size

    @property
    def _is_ome(self):
        return self.path.name.lower().endswith((".ome.tif", ".ome.tiff"))

    def _create(self, path):
        import tifffile

        large = sum(prod(self.level_shape(f)) for f in self.levels) * self.dtype.itemsize > 3.9e9
        named = {str(value): name for value, name in zip(self.legend.values, self.legend.names)}
        metadata = {"axes": "CYX"[-len(self.shape) :]}
        if self._is_ome:
            metadata |= {"UUID": "urn:uuid:00000000-0000-0000-0000-000000000000"}
            metadata["MapAnnotation"] = {"Namespace": "classes", **named}
        else:
            metadata |= {"classes": named}
        look = {"photometric": "minisblack", "software": False}
        if len(self.shape) == 2:
            look["photometric"] = "palette"
            look["colormap"] = self.legend.color_table().T.astype(np.uint16) * 257
        with tifffile.TiffWriter(
            path, bigtiff=large, ome=self._is_ome, shaped=not self._is_ome
        ) as writer:
            for factor in self.levels:
                first = factor == 1
                options = {"subifds": len(self.levels) - 1, "metadata": metadata} if first else {}
                writer.write(
                    shape=self.level_shape(factor),
                    dtype=self.dtype,
                    tile=self.chunk(factor),
                    subfiletype=0 if first else 1,
                    **look,
                    **options,
                )

    @cached_property
    def _offsets(self):
        """By level, the tiles' offsets in the file: planes x rows of tiles x columns of tiles."""
        import tifffile

        offsets_of = {}
        with tifffile.TiffFile(self.path) as tiff:
            for factor, series in zip(self.levels, tiff.series[0].levels):
                sizes = zip(self.level_shape(factor)[-2:], self.chunk(factor))
                tiles = [-(-n // step) for n, step in sizes]
                offsets = [page.dataoffsets for page in series.pages]
                offsets_of[factor] = np.array(offsets, np.int64).reshape(-1, *tiles)
            self._order = tiff.byteorder
        return offsets_of

    def write(self, rows, columns, values):
        with self.path.open("r+b", buffering=0) as file:
            for factor, top, left, part in self._parts(rows, columns, values):
                offsets, (height, width) = self._offsets[factor], self.chunk(factor)
                planes = part.reshape(-1, *part.shape[-2:])
                tile = np.zeros((height, width), self.dtype.newbyteorder(self._order))
                for plane, values_ in enumerate(planes):
                    for y in range(0, values_.shape[0], height):
                        for x in range(0, values_.shape[1], width):
                            inside = values_[y : y + height, x : x + width]
                            tile[...] = 0
                            tile[: inside.shape[0], : inside.shape[1]] = inside
                            place = plane, (top + y) // height, (left + x) // width
                            os.pwrite(file.fileno(), tile.data, int(offsets[place]))
            os.fdatasync(file.fileno())

    def reduced(self, factor):
        import tifffile

        level = max(n for n in self.levels if n <= factor)
        with tifffile.TiffFile(self.path) as tiff:
            array = tiff.series[0].levels[self.levels.index(level)].asarray(out="memmap")
            return np.array(array[:: factor // level, :: factor // level])


KINDS = {".npy": NpySink, ".zarr": ZarrSink, ".tif": TiffSink, ".tiff": TiffSink}
"""By the end of a name."""


def overview_path(path: Path) -> Path:
    """Where the picture of labels in ``path`` goes."""
    return path.with_name(f"{stem_of(path)}.overview.png")


def probabilities_path(path: Path) -> Path:
    """Where the probabilities go that belong to labels in ``path``."""
    return path.with_name(f"{stem_of(path)}.probabilities{path.suffix}")


def write_overview(sink: Sink, most: int = 1024) -> Path:
    """A picture of all labels, in colors, of at most ``most`` rows and columns."""
    from PIL import Image

    factor = 1
    while max(sink.shape) > most * factor:
        factor *= 2
    path, content = overview_path(sink.path), io.BytesIO()
    Image.fromarray(sink.legend.color_table()[sink.reduced(factor)]).save(content, "png")
    write_atomically(path, content.getvalue())
    return path
