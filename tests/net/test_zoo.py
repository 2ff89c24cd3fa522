"""The networks of the tables: their maps, worked out by hand, and their multiply-adds."""

import re
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import pytest

from net import Dense
from net.nodes import IMAGE
from net.program import Program
from net.zoo import ZOO, build
from tests.net.nets import random_image


@dataclass(frozen=True)
class Expected:
    """A net by hand; all of them are square.

    Attributes:
        maps: for each layer with a window: the channels and rows of the patch net's map, the
            spacing d of its dense form's entries, the receptive field R behind it.
        ratios: multiply-adds of scanning over those of the dense form, at 128, 256, 512 and 1024
            pixels.
    """

    image: tuple[int, int]
    layers: str
    maps: list[tuple[int, int, int, int]]
    ratios: tuple[int, ...] = ()


NETS = {
    "lenet28": Expected(
        (1, 28),
        "conv relu max conv relu max fc relu fc",
        [
            *((20, 24, 1, 5), (20, 12, 1, 6), (50, 8, 2, 14), (50, 4, 2, 16)),
            *((500, 1, 4, 28), (10, 1, 4, 28)),
        ],
        (5, 5, 5),
    ),
    "n4": Expected(
        (1, 95),
        "conv tanh max conv tanh max conv tanh max conv tanh max fc tanh fc",
        [
            *((48, 92, 1, 4), (48, 46, 1, 5), (48, 42, 2, 13), (48, 21, 2, 15)),
            *((48, 18, 4, 27), (48, 9, 4, 31), (48, 6, 8, 55), (48, 3, 8, 63)),
            *((200, 1, 16, 95), (2, 1, 16, 95)),
        ],
        (308, 409, 475),
    ),
    "plain133": Expected(
        (3, 133),
        "conv tanh max conv tanh max conv tanh fc",
        [
            *((25, 128, 1, 6), (25, 16, 1, 13), (50, 14, 8, 29), (50, 7, 8, 37)),
            *((32, 1, 16, 133), (8, 1, 16, 133)),
        ],
        (368, 435, 469),
    ),
    "rcnn25": Expected(
        (3, 25),
        "conv tanh max conv tanh max fc",
        [(25, 18, 1, 8), (25, 9, 1, 9), (50, 2, 2, 23), (50, 1, 2, 25), (8, 1, 4, 25)],
        (21, 22, 22),
    ),
    "featurenet31": Expected(
        (1, 31),
        "conv norm relu conv norm relu max "
        "conv norm relu conv norm relu max "
        "conv norm relu conv norm relu conv",
        [
            *((64, 28, 1, 4), (64, 26, 1, 6), (64, 13, 1, 7)),
            *((64, 10, 2, 13), (64, 8, 2, 17), (64, 4, 2, 19)),
            *((200, 1, 4, 31), (200, 1, 4, 31), (3, 1, 4, 31)),
        ],
        (81, 86, 88),
    ),
    "featurenet61": Expected(
        (1, 61),
        "conv norm relu conv norm relu max "
        "conv norm relu conv norm relu max "
        "conv norm relu conv norm relu max "
        "conv norm relu conv norm relu conv",
        [
            *((64, 58, 1, 4), (64, 56, 1, 6), (64, 28, 1, 7)),
            *((64, 26, 2, 11), (64, 24, 2, 15), (64, 12, 2, 17)),
            *((64, 10, 4, 25), (64, 8, 4, 33), (64, 4, 4, 37)),
            *((200, 1, 8, 61), (200, 1, 8, 61), (3, 1, 8, 61)),
        ],
        (297, 344, 370),
    ),
    "strided67": Expected(
        (3, 67),
        "conv relu max conv relu max fc relu fc",
        [
            *((32, 31, 1, 7), (32, 15, 2, 11), (48, 13, 4, 19), (48, 6, 4, 27)),
            *((200, 1, 8, 67), (8, 1, 8, 67)),
        ],
    ),
    "authors133": Expected(
        (3, 133),
        "conv max tanh conv max tanh conv",
        [
            *((50, 128, 1, 6), (50, 16, 1, 13), (50, 14, 8, 29), (50, 7, 8, 37)),
            (32, 1, 16, 133),
        ],
        (535, 689, 779, 826),
    ),
    "greentea102": Expected(
        (3, 102),
        "conv relu max conv relu max conv relu max fc relu fc relu fc",
        [
            *((48, 96, 1, 7), (48, 48, 1, 8), (128, 44, 2, 16), (128, 22, 2, 18)),
            *((192, 20, 4, 26), (192, 10, 4, 30)),
            *((1024, 1, 8, 102), (512, 1, 8, 102), (2, 1, 8, 102)),
        ],
        (22,),
    ),
}

geometry = cache(partial(build, backend="reference"))
nets = pytest.mark.parametrize(("name", "expected"), NETS.items(), ids=NETS)


def test_every_net_is_listed_here():
    assert NETS.keys() == ZOO.keys()


@nets
class TestGeometry:
    def test_layers(self, name, expected):
        net = geometry(name)
        assert (net.channels, net.patch) == (expected.image[0], expected.image[1:] * 2)
        assert " ".join(node.layer.kind for node in net.nodes.values()) == expected.layers

    def test_maps(self, name, expected):
        nodes = geometry(name).nodes.values()
        maps = [
            (n.output.channels, n.output.size, n.sources[0].spacing, n.output.extent)
            for n in nodes
            if n.window
        ]
        assert maps == [(c, (h, h), (d, d), (r, r)) for c, h, d, r in expected.maps]

    def test_reads_its_whole_patch_and_gives_one_vector(self, name, expected):
        net = geometry(name)
        assert net.receptive_field == net.patch
        assert net.output.size == (1, 1)

    @pytest.mark.cpu
    def test_patch_maps_in_memory_are_compact(self, name, expected):
        shapes = shapes_in_memory(name, "patch", (0, 0))
        assert shapes == [(1, c, h, h) for c, h, _, _ in expected.maps]

    @pytest.mark.cpu
    def test_dense_maps_in_memory_have_stride_1(self, name, expected):
        shapes = shapes_in_memory(name, "dense", (2, 5))
        patch = expected.image[1]
        assert shapes == [
            (1, c, patch + 2 - r + 1, patch + 5 - r + 1) for c, _, _, r in expected.maps
        ]


def shapes_in_memory(name, form, more):
    """Of the outputs of the layers with a window, for an image larger than the patch by more."""
    net = build(name, backend="cpu")
    image = random_image(net, tuple(p + m for p, m in zip(net.patch, more)))
    maps, shapes = {IMAGE: image[None]}, []
    program = Program(net, form)
    for step in program.steps:
        program.advance(program.run(), step, maps)
        if step.node.window:
            shapes.append(maps[step.output].shape)
    return shapes


@pytest.mark.parametrize(
    ("name", "labelled", "ratio"),
    [
        (name, labelled, ratio)
        for name, expected in NETS.items()
        for labelled, ratio in zip((128, 256, 512, 1024), expected.ratios)
    ],
)
def test_multiply_adds_of_scanning_over_dense(name, labelled, ratio):
    summary = Dense(geometry(name)).summary(labelled)
    (printed,) = re.findall(r"scanning takes ([0-9.]+) times", summary)
    assert round(float(printed)) == ratio


@pytest.mark.parametrize("name", ZOO)
def test_number_of_classes(name):
    assert build(name, classes=17, backend="reference").output.channels == 17


def test_the_page_lists_the_nets_as_they_are():
    page = (Path(__file__).parents[2] / "docs" / "nets.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d) \| (\d+) \|", page, re.MULTILINE)
    nets = {name: build(name, backend="reference") for name in ZOO}
    assert [(name, *map(int, sizes)) for name, *sizes in rows] == [
        (name, net.patch[0], net.channels, net.output.channels) for name, net in nets.items()
    ]


def test_unknown_net():
    with pytest.raises(ValueError, match=r"^name is 'vgg'; expected one of 'lenet28', 'n4', "):
        build("vgg")
