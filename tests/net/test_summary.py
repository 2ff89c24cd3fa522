"""The table of a net's layers, against numbers worked out by hand."""

import re

import numpy as np
import pytest

from net import Dense, Net
from net.chosen import Chosen
from net.layers import Add, AveragePool, Convolution, Crop, FullyConnected, MaxPool, ReLU
from net.nodes import IMAGE
from net.planning import forward_bytes, gradients_bytes, needed_bytes
from net.zoo import ZOO, build


def cells(summary):
    """{layer: the cells of its line}; a cell's own words are one space apart."""
    lines = [re.split(r"\s{2,}", line) for line in summary.splitlines()[1:-1]]
    return {line[0]: line[1:] for line in lines}


def assert_rows(summary, rows):
    """``rows`` are lines "layer: cell | cell ...", of the cells that are not empty."""
    table = cells(summary)
    for line in rows.strip().splitlines():
        name, row = line.strip().split(": ")
        assert table[name] == row.split(" | ")


LENET28 = """
layer: reads | window | patch map | d | footprint | R | parameters | scanning MAC | dense MAC
conv1: image | 5x5 / 1x1 | 20 x 24x24 | 1x1 | 5x5 | 5x5 | 520 | 18,874,368,000 | 38,920,500
relu1: conv1 | 20 x 24x24 | 1x1 | 5x5 | 0 | 0 | 0
max1: relu1 | 2x2 / 2x2 | 20 x 12x12 | 1x1 | 2x2 | 6x6 | 0 | 0 | 0
conv2: max1 | 5x5 / 1x1 | 50 x 8x8 | 2x2 | 9x9 | 14x14 | 25,050 | 104,857,600,000 | 1,822,500,000
relu2: conv2 | 50 x 8x8 | 2x2 | 14x14 | 0 | 0 | 0
max2: relu2 | 2x2 / 2x2 | 50 x 4x4 | 2x2 | 3x3 | 16x16 | 0 | 0 | 0
fc1: max2 | 4x4 / 1x1 | 500 x 1x1 | 4x4 | 13x13 | 28x28 | 400,500 | 26,214,400,000 | 26,214,400,000
relu3: fc1 | 500 x 1x1 | 4x4 | 28x28 | 0 | 0 | 0
fc2: relu3 | 1x1 / 1x1 | 10 x 1x1 | 4x4 | 1x1 | 28x28 | 5,010 | 327,680,000 | 327,680,000
total: 431,080 | 150,274,048,000 | 28,403,500,500
"""


def test_lenet28():
    summary = Dense(build("lenet28", backend="reference")).summary(256)
    assert summary.splitlines()[0] == (
        "patch 28x28, 256 x 256 labelled pixels: scanning takes 5.3 times the multiply-adds of "
        "the dense form"
    )
    assert len(cells(summary)) == 11
    assert_rows(summary, LENET28)


@pytest.mark.parametrize("name", ZOO)
def test_tables_of_the_zoo_fit_120_columns(name):
    dense = Dense(build(name, backend="reference"))
    for table in (dense.summary(4096), dense.summary(1024, pixels=[[1, 2]]), str(dense.net)):
        assert max(map(len, table.splitlines())) <= 120


def test_parameters_of_batch_normalisations_are_counted():
    table = cells(Dense(build("featurenet31", backend="reference")).summary())
    assert table["norm1"][4] == "128"
    assert table["total"][0] == "387,659"


@pytest.mark.parametrize("name", ZOO)
def test_parameters_are_those_of_the_net(name):
    net = build(name, backend="reference")
    total = sum(array.size for array in net.parameters.values())
    assert cells(Dense(net).summary())["total"][0] == f"{total:,}"


def test_rows_and_columns_differ():
    layers = [
        Convolution(4, (3, 2), stride=(2, 1), dilation=(1, 3), bias=False, name="first"),
        AveragePool((1, 2), (2, 3)),
        FullyConnected(5),
    ]
    net = Net(layers, channels=2, patch=(7, 11), backend="reference")
    summary = Dense(net).summary((10, 20))
    assert summary.startswith("patch 7x11, 10 x 20 labelled pixels: scanning takes 6.0 times ")
    assert_rows(
        summary,
        """
        first: image | 3x2 / 2x1 | 4 x 3x8 | 1x1 | 3x4 | 3x4 | 48 | 230,400 | 18,144
        average1: first | 1x2 / 2x3 | 4 x 2x3 | 2x1 | 1x2 | 3x5 | 0 | 0 | 0
        fc1: average1 | 2x3 / 1x1 | 5 x 1x1 | 4x3 | 5x7 | 7x11 | 125 | 24,000 | 24,000
        """,
    )


def test_branches():
    layers = [
        Convolution(1, 3, name="sum of 9"),
        Crop((1, 1, 1, 1), name="middle", inputs=("image",)),
        Add(inputs=("sum of 9", "middle")),
        FullyConnected(1),
    ]
    summary = Dense(Net(layers, channels=1, patch=5, backend="reference")).summary()
    assert_rows(
        summary,
        """
        middle: image | 1 x 3x3 | 1x1 | 3x3 | 0 | 0 | 0
        add1: sum of 9, middle | 1 x 3x3 | 1x1 | 3x3 | 0 | 0 | 0
        """,
    )


def test_unread_rows_are_not_computed():
    """The patch's last row and column are dropped by the pool: the dense maps end there too."""
    layers = [MaxPool(2), Convolution(1, 2), ReLU(), Convolution(3, 1)]
    net = Net(layers, channels=1, patch=5, backend="reference")
    summary = Dense(net).summary((10, 8))
    assert_rows(
        summary,
        """
        conv1: max1 | 2x2 / 1x1 | 1 x 1x1 | 2x2 | 3x3 | 4x4 | 5 | 320 | 320
        conv2: relu1 | 1x1 / 1x1 | 3 x 1x1 | 2x2 | 1x1 | 4x4 | 6 | 240 | 240
        """,
    )


def test_without_weights_there_is_no_ratio():
    summary = Dense(Net([MaxPool(5)], channels=1, patch=5, backend="reference")).summary()
    assert summary.splitlines()[0] == "patch 5x5"


def test_tells_the_memory():
    dense = Dense(build("lenet28", backend="reference"))
    last = dense.summary((3, 4)).splitlines()[-1]
    form = dense.program, "valid", (3, 4)
    forward, both = forward_bytes(*form) / 1e6, gradients_bytes(*form) / 1e6
    assert 0 < forward < both
    expected = f"{forward:.1f} MB forward, {both:.1f} MB forward and backward"
    assert last == f"the dense form takes {expected}"


class TestOfChosenPixels:
    """Conv 3 x 3 then 2 x 2: of a pixel 2 x 2 cells; of two neighbours 2 x 3."""

    def dense(self, **options):
        layers = [Convolution(2, 3), ReLU(), FullyConnected(3)]
        return Dense(Net(layers, channels=1, patch=4, backend="reference"), "zero")

    def test_tells_cells_work_memory_and_the_way(self):
        mask = np.zeros((20, 30), bool)
        mask[4, 5] = mask[4, 6] = mask[11, 29] = True
        dense = self.dense()
        told = dense.summary(mask=mask)
        assert told.splitlines()[0] == (
            "patch 4x4, 3 of 20 x 30 pixels need 0.965% of the dense form's multiply-adds "
            "(scanning 1.1%)"
        )
        table = {line.split()[0]: line.split()[1:] for line in told.splitlines()[2:6]}
        assert table["conv1"] == ["10", "1.54%", "180", "1.54%"]  # of 21 x 31
        assert table["relu1"] == ["10", "1.54%", "0"]
        assert table["fc1"] == ["3", "0.5%", "72", "0.5%"]
        assert table["total"] == ["252", "0.965%"]
        assert "this pass runs over lists of needed cells" in told
        some = dense.needed.over(Chosen(mask.shape, mask))
        sizes = len(some.cells.cells[IMAGE]), 3
        both = needed_bytes(some.program, *sizes, keep=True) / 1e6
        assert f"{both:,.1f} MB forward and backward, " in told
        assert told.splitlines()[-1] == dense.summary(mask.shape).splitlines()[-1]
        assert dense.summary((20, 30), pixels=np.argwhere(mask)[[2, 0, 1, 0]]) == told

    def test_of_nearly_all_the_dense_form_is_taken(self):
        told = self.dense().summary(mask=np.arange(600).reshape(20, 30) > 9)
        assert "this pass runs in the dense form, which takes less" in told

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"mask": np.zeros((3, 4), bool)}, "mask chooses no pixel"),
            ({"mask": np.ones((3, 4), bool), "labelled": 3}, "mask has shape"),
            ({"mask": np.ones((3, 4), bool), "pixels": [[0, 0]]}, "mask and pixels"),
            ({"labelled": 4, "pixels": [[0, 4]]}, "pixels reach from"),
        ],
    )
    def test_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            self.dense().summary(**arguments)


def test_a_net_prints_its_layers_and_geometry():
    layers = [
        Convolution(4, (3, 2), stride=(2, 1), name="first"),
        MaxPool((1, 2)),
        Crop((0, 1, 1, 0), name="middle"),
        FullyConnected(5),
    ]
    net = Net(layers, channels=2, patch=(7, 11), backend="reference")
    assert str(net).splitlines() == [
        "patch 2 x 7x11, float32, backend reference",
        "layer   reads   window / stride  map       d    R",
        "first   image   3x2 / 2x1        4 x 3x10  1x1  3x2",
        "max1    first   1x2 / 1x2        4 x 3x5   2x1  3x3",
        "middle  max1                     4 x 2x4   2x2  5x5",
        "fc1     middle  2x4 / 1x1        5 x 1x1   2x2  7x11",
    ]
