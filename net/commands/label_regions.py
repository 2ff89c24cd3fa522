"""``python -m net label --as``: images of any size, region by region (``net.large``)."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from tqdm import tqdm

from net.commands.info import usage_lines
from net.large.labelling import LabellingPlan, plan
from net.large.sinks import KINDS, overview_path, probabilities_path
from net.learning.checkpoint import load_net
from net.pictures.folders import stem_of

FORMATS = tuple(end.lstrip(".") for end in (*KINDS, ".ome.tif"))


def arguments(parser: argparse.ArgumentParser) -> None:
    """What ``label`` takes more."""
    group = parser.add_argument_group("images of any size")
    group.add_argument(
        "--as",
        dest="format",
        choices=FORMATS,
        help="write NAME of this format and NAME.overview.png, region by region; IMAGE may be a "
        "Zarr array or OME-Zarr image, too",
    )
    group.add_argument(
        "--memory", help="to take at most, such as '2 GB'; by default 3/4 of what is free"
    )
    group.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster whose workers label, tcp://..."
    )


def is_wanted(options: argparse.Namespace) -> bool:
    """Whether this labels, not ``label`` itself; refuses options that are of no use without."""
    for name in ("memory", "scheduler"):
        if options.format is None and getattr(options, name) is not None:
            options.error(f"--{name} needs --as, one of {', '.join(FORMATS)}")
    return options.format is not None


def run(options: argparse.Namespace) -> int:
    """Check every image and say what is planned, then label one after the other."""
    net = load_net(options.net)
    outs = {Path(image): None for image in options.images}
    for image in outs:
        outs[image] = Path(options.out, f"{stem_of(image)}.{options.format}")
        if list(outs.values()).count(outs[image]) > 1:
            options.error(f"{image} and another image would both be written to {outs[image]}")
        if outs[image].resolve() == image.resolve():
            options.error(f"{outs[image]} would be replaced; choose another --out")
    plans = {
        image: plan(
            image,
            net,
            out,
            probabilities="float16" if options.probabilities else None,
            where=options.where,
            axes=options.axes,
            memory=options.memory,
            client=options.scheduler,
        )
        for image, out in outs.items()
    }
    if not options.json:
        print("\n".join(usage_lines(net)))
        print("\n".join(f"{image}: {one}" for image, one in plans.items()), flush=True)
    records = [_label(image, one) for image, one in plans.items()]
    if options.json:
        print(json.dumps({"net": options.net, "images": records}))
    else:
        print("\n".join(record["outputs"]["classes"] for record in records))
    return 0


def _label(image: Path, one: LabellingPlan) -> dict:
    """Label one image; what scripts are told of it."""
    started, grid = time.perf_counter(), one.layout.grid
    with tqdm(total=len(grid), initial=one.done, unit="region", disable=None) as bar:
        one.execute(lambda done, total: bar.update(done - bar.n))
    outputs = {"classes": one.out, "overview": overview_path(one.out)}
    if len(one.work.sinks) > 1:
        outputs["probabilities"] = probabilities_path(one.out)
    return {
        "image": str(image),
        "shape": list(one.work.source.shape),
        "region": list(grid.region),
        "regions": len(grid),
        "resumed_after": one.done,
        "wasted": one.layout.wasted,
        "planned_bytes": one.layout.peak_bytes,
        "seconds": time.perf_counter() - started,
        "outputs": {kind: str(path) for kind, path in outputs.items()},
    }
