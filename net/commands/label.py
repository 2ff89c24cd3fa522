"""Label every pixel of images with a net.

For each image DIR gets NAME.png, the class map with the values of the net's label rule (0 where
there is no label, classes from 1, if the file says nothing else), and NAME.overlay.png, the image
in the colors of its classes. Pixels whose probabilities are NaN have no label.

With --as, images of any size are labelled region by region into such files: in fixed memory, on one
machine or many. A run that was interrupted goes on when it is started again alike.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kernels.cross_entropy import UNLABELLED
from net import free_memory, planning, summary
from net.borders import patch_margins
from net.commands import label_regions
from net.commands.info import usage_lines
from net.dense import Dense
from net.files import check_writable, write_atomically
from net.images import net_input
from net.learning.checkpoint import load_net
from net.pictures import read, read_mask, shape_of
from net.pictures.folders import stem_of
from net.pictures.overlay import overlaid, palette
from net.pictures.writing import png, tiff
from net.usage import Usage

PROBE = 128
"""Rows and columns of the largest image that is labelled to tell how long the others take."""
BESIDE = 48
"""Bytes for each pixel that reading, normalising and drawing take, beside image and results."""
_SHARE = 10
"""The probe's side is the images' side divided by this."""


@dataclass(frozen=True)
class Job:
    """What is made of one image.

    Attributes:
        image: its file.
        shape: channels, rows and columns.
        labelled: rows and columns that get a label.
        tile: size of the tiles, as ``Dense.predict`` takes it.
        nbytes: bytes of memory, at most.
        outputs: the files that are written, by what they hold.
    """

    image: Path
    shape: tuple[int, int, int]
    labelled: tuple[int, int]
    tile: int | None
    nbytes: int
    outputs: dict[str, Path]


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="PNG, JPEG, TIFF, .npy ...")
    parser.add_argument("--net", required=True, metavar="FILE", help="of a net or a run")
    parser.add_argument("--out", required=True, metavar="DIR", help="it is made if need be")
    parser.add_argument("--where", metavar="MASK", help="label only where this image is above 0")
    parser.add_argument(
        "--axes",
        choices=("first", "last"),
        help="which axis holds the channels, where files do not say and their sizes do not tell",
    )
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="also write NAME.probabilities.tif (or as --as)",
    )
    label_regions.arguments(parser)
    parser.add_argument("--json", action="store_true", help="for scripts: one JSON object")


def run(options: argparse.Namespace) -> int:
    """Check every image, say what is planned, label them one by one."""
    if label_regions.is_wanted(options):
        return label_regions.run(options)
    net = load_net(options.net)
    dense = Dense(net, border=_usage(net).border)
    kinds = ("classes", "overlay", "probabilities")[: 2 + options.probabilities]
    outputs = _outputs(options, [Path(image) for image in options.images], kinds)
    jobs = [_job(dense, image, options.axes, files) for image, files in outputs.items()]
    for job in jobs:
        _check_mask(options.where, job)
        for what, path in job.outputs.items():
            check_writable(what, path)
    seconds = _seconds(dense, jobs)
    if not options.json:
        print("\n".join(_told(options.net, dense, jobs, seconds)), flush=True)
    records = []
    pixels = sum(job.labelled[0] * job.labelled[1] for job in jobs)
    with tqdm(total=pixels, unit="px", unit_scale=True, disable=None) as bar:
        for job in jobs:
            records.append(_label(dense, job, options.where, options.axes))
            bar.update(job.labelled[0] * job.labelled[1])
    if options.json:
        print(json.dumps({"net": options.net, "planned_seconds": seconds, "images": records}))
    else:
        print("\n".join(_summary(record) for record in records))
    return 0


def _usage(net) -> Usage:
    return net.usage or Usage()


def _outputs(options, images, kinds) -> dict[Path, dict[str, Path]]:
    """The files to write for each image; none may be written twice, or be one that is read."""
    endings = {"classes": ".png", "overlay": ".overlay.png", "probabilities": ".probabilities.tif"}
    outputs, makers = {}, {}
    inputs = {Path(path).resolve() for path in (*images, options.net, options.where or options.net)}
    for image in images:
        outputs[image] = {}
        for kind in kinds:
            path = Path(options.out, stem_of(image) + endings[kind])
            other = makers.setdefault(path, image)
            if other is not image:
                options.error(f"{other} and {image} would both be written to {path}")
            if path.resolve() in inputs:
                options.error(f"{path} would be replaced; choose another --out")
            outputs[image][kind] = path
    return outputs


def _job(dense, image, axes, outputs) -> Job:
    """The job of one image, of which only the header is read; as few parts as fit in memory."""
    net = dense.net
    shape = shape_of(image, axes=axes, channels=net.channels)
    try:
        labelled = dense.output_size(shape[1:])
    except ValueError as error:
        raise ValueError(f"{image}: {error}") from None
    pixels = shape[1] * shape[2]
    held = pixels * (net.channels * (8 + np.dtype(net.dtype).itemsize) + BESIDE)

    def needed(tile):
        form = dense.program, dense.border, labelled
        return held + planning.remembered(planning.predict_bytes, *form, tile)

    free, tile = net.backend.memory.free_bytes(), None
    if free is not None and needed(labelled) > free:
        tile = min(free_memory.fitting_side(needed, free), max(labelled))
        if not tile:
            raise MemoryError(
                f"{image}: labelling takes {_size(needed((1, 1)))} at least, {_size(free)} are free"
            )
    nbytes = needed(labelled if tile is None else (tile, tile))
    return Job(image, shape, labelled, tile, nbytes, outputs)


def _check_mask(path, job):
    size_of_mask = job.shape[1:] if path is None else shape_of(path)[1:]
    if size_of_mask != job.shape[1:]:
        sizes = (f"{size[0]} x {size[1]}" for size in (size_of_mask, job.shape[1:]))
        raise ValueError("{} is {}; expected {}, as {}".format(path, *sizes, job.image))


def _seconds(dense, jobs) -> float:
    """About how long the images take: a small one is labelled, the others by multiply-adds."""
    net = dense.net
    pixels = sum(job.labelled[0] * job.labelled[1] for job in jobs)
    side = int(min(PROBE, max(1, pixels**0.5 / _SHARE)))
    more = [p - 1 if dense.border == "valid" else 0 for p in net.patch]
    probe = np.zeros((net.channels, side + more[0], side + more[1]), net.dtype)
    dense.predict(probe)  # compiles
    started = time.perf_counter()
    dense.predict(probe)
    seconds = time.perf_counter() - started
    return seconds * sum(_work(net, job.labelled) for job in jobs) / _work(net, (side, side))


def _work(net, labelled):
    nodes = net.nodes.values()
    return 1 + sum(summary.multiply_adds(net, node, labelled)[1] for node in nodes)


def _told(path, dense, jobs, seconds):
    """What is planned, line by line."""
    net = dense.net
    yield f"{path}: patch {net.patch[0]} x {net.patch[1]}, {net.output.channels} classes, " + (
        f"border {dense.border}, backend {net.backend.name}"
    )
    yield from usage_lines(net)
    for job in jobs:
        parts = "in one pass" if job.tile is None else f"in parts of {job.tile} x {job.tile}"
        size = " x ".join(map(str, job.shape))
        yield f"{job.image}: {size}, {parts}, {_size(job.nbytes)}"
    pixels = sum(job.labelled[0] * job.labelled[1] for job in jobs)
    most = max(job.nbytes for job in jobs)
    free = net.backend.memory.free_bytes()
    of_free = "" if free is None else f" of {_size(free)} free"
    yield f"{pixels / 1e6:.3g} megapixels, {_size(most)}{of_free}, about {_duration(seconds)}"


def _size(nbytes):
    return f"{nbytes / 1e6:.3g} MB" if nbytes < 1e9 else f"{nbytes / 1e9:.3g} GB"


def _duration(seconds):
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _label(dense, job, where, axes) -> dict:
    """Label one image and write its files; returns what scripts are told of it."""
    started = time.perf_counter()
    net, usage = dense.net, _usage(dense.net)
    image = read(job.image, axes=axes, channels=net.channels)
    top, left = patch_margins(net.patch)[:2] if dense.border == "valid" else (0, 0)
    place = np.s_[top : top + job.labelled[0], left : left + job.labelled[1]]
    mask = None if where is None else read_mask(where, job.shape[1:])[place]
    classes, probabilities = dense.predict(net_input(net, image, "first"), job.tile, mask)
    class_map = np.full(job.shape[1:], UNLABELLED, np.int64)
    class_map[place] = classes
    number = net.output.channels
    write_atomically(job.outputs["classes"], png(usage.label_rule.encoded(class_map, number)))
    colored = overlaid(image, class_map, palette(usage, number))
    write_atomically(job.outputs["overlay"], png(colored))
    if "probabilities" in job.outputs:
        maps = np.full((number, *job.shape[1:]), np.nan, probabilities.dtype)
        maps[:, *place] = probabilities
        write_atomically(job.outputs["probabilities"], tiff(maps, usage.names(number)))
    counts = np.bincount(class_map.ravel() - UNLABELLED, minlength=number + 1).tolist()
    return {
        "image": str(job.image),
        "shape": list(job.shape),
        "tile": job.tile,
        "planned_bytes": job.nbytes,
        "seconds": time.perf_counter() - started,
        "outputs": {kind: str(path) for kind, path in job.outputs.items()},
        "unlabelled": counts[0],
        "pixels": dict(zip(usage.names(number), counts[1:])),
    }


def _summary(record):
    total = max(1, record["unlabelled"] + sum(record["pixels"].values()))
    shares = [f"{name} {100 * n / total:.1f}%" for name, n in record["pixels"].items() if n]
    if record["unlabelled"]:
        shares.append(f"without a label {100 * record['unlabelled'] / total:.1f}%")
    return f"{record['outputs']['classes']}: {', '.join(shares)}"
