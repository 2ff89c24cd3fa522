"""What has no exact dense form is refused when the net is built, and so is what is no net at all.

Li, Zhao & Wang 2014 needs layers that are translation-equivariant up to their stride, and one
vector for each patch. The message names the layer.
"""

import re

import numpy as np
import pytest

from net import Net, NotConvertible
from net.layers import (
    ELU,
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    Add,
    AveragePool,
    BatchNorm,
    Concatenate,
    Convolution,
    Crop,
    Dropout,
    FullyConnected,
    InstanceNorm,
    LeakyReLU,
    MaxPool,
    ReLU,
)


def build(*layers, **options):
    options = {"channels": 2, "patch": 8, "backend": "reference"} | options
    return Net(list(layers), **options)


def refuses(error, *parts):
    """The message has these parts, in this order; it begins with the first."""
    return pytest.raises(error, match="^" + ".*".join(map(re.escape, parts)))


class TestNoDenseForm:
    @pytest.mark.parametrize(
        ("layers", "name", "padding"),
        [
            ([Convolution(1, 3, padding=1)], "conv1", "1"),
            ([Convolution(1, 7), Convolution(1, 2, padding=(0, 2))], "conv2", "(0, 2)"),
            ([MaxPool(2, padding=1, name="top")], "top", "1"),
            ([AveragePool(2, padding=(1, 0))], "average1", "(1, 0)"),
        ],
    )
    def test_padding(self, layers, name, padding):
        reason = "puts made-up values where the dense form sees pixels of the image"
        with refuses(NotConvertible, f"layer '{name}': padding {padding} ", reason):
            build(*layers)

    @pytest.mark.parametrize(
        ("layer", "name"),
        [
            (MaxPool(3, 2, ceil_mode=True), "max1"),
            (AveragePool((2, 3), ceil_mode=True), "average1"),
            (MaxPool(2, (3, 2), dilation=(2, 1), ceil_mode=True), "max1"),
        ],
    )
    def test_ceil_mode(self, layer, name):
        reason = "cuts its last window at the patch's border"
        with refuses(NotConvertible, f"layer '{name}': ceil_mode=True on a 8 x 8 map ", reason):
            build(layer)

    @pytest.mark.parametrize(
        ("layer", "name", "bins"),
        [
            (AdaptiveMaxPool(3), "max1", "3 x 3"),
            (AdaptiveMaxPool(16), "max1", "16 x 16"),
            (AdaptiveAveragePool((4, 3)), "average1", "4 x 3"),
        ],
    )
    def test_unequal_bins(self, layer, name, bins):
        begin = f"layer '{name}': adaptive pooling of a 8 x 8 map into {bins} bins"
        with refuses(NotConvertible, begin, "unequal bins, which no single stride reaches"):
            build(layer)

    @pytest.mark.parametrize(
        ("layer", "reason"),
        [
            (BatchNorm(statistics="batch"), "statistics over the batch at run time"),
            (InstanceNorm(), "statistics over space at run time"),
        ],
    )
    def test_statistics_at_run_time(self, layer, reason):
        with refuses(NotConvertible, "layer 'norm1': ", reason):
            build(Convolution(1, 8), layer)

    @pytest.mark.parametrize(
        ("layer", "name", "left"),
        [
            (Convolution(1, (8, 3)), "conv1", "1 x 6"),
            (ReLU(name="end"), "end", "8 x 8"),
            (AdaptiveMaxPool((2, 1)), "max1", "2 x 1"),
        ],
    )
    def test_more_than_one_vector(self, layer, name, left):
        reason = "is left at the end; expected 1 x 1, one vector for each patch"
        with refuses(NotConvertible, f"layer '{name}': a map of {left} vectors ", reason):
            build(layer)

    @pytest.mark.parametrize(("merge", "name"), [(Add, "add1"), (Concatenate, "concatenate1")])
    class TestBranches:
        def test_sizes(self, merge, name):
            begin = f"layer '{name}': its inputs are maps of 6 x 7 and 8 x 8 cells"
            with refuses(NotConvertible, begin, "expected equal sizes"):
                build(
                    Convolution(2, (3, 2), name="a"),
                    merge(inputs=("a", "image")),
                    FullyConnected(1),
                )

        @pytest.mark.parametrize(
            ("stride", "kernel", "strides"),
            [(2, 5, "(2, 2) and (1, 1)"), ((1, 2), (2, 5), "(1, 2) and (1, 1)")],
        )
        def test_accumulated_strides(self, merge, name, stride, kernel, strides):
            """The maps have one size, but their cells lie differently far apart."""
            begin = f"layer '{name}': its inputs have accumulated strides {strides}"
            with refuses(NotConvertible, begin, "expected equal strides"):
                build(
                    Convolution(2, 2, stride=stride, name="a"),
                    Convolution(2, kernel, name="b", inputs=("image",)),
                    merge(inputs=("a", "b")),
                    FullyConnected(1),
                )


class TestDenseForm:
    """The same arguments where they break nothing."""

    def test_ceil_mode_that_cuts_no_window(self):
        net = build(MaxPool(2, ceil_mode=True), AveragePool(4, 3, ceil_mode=True))
        assert net.nodes["max1"].output.size == (4, 4)
        assert net.receptive_field == (8, 8)

    def test_equal_bins(self):
        net = build(AdaptiveMaxPool((4, 2)), AdaptiveAveragePool(1))
        first, last = (node.output for node in net.nodes.values())
        assert (first.size, first.spacing, first.extent) == ((4, 2), (2, 4), (2, 4))
        assert (last.size, last.spacing, last.extent) == ((1, 1), (8, 8), (8, 8))

    def test_zero_padding(self):
        assert build(Convolution(1, 8, padding=(0, 0))).receptive_field == (8, 8)

    @pytest.mark.parametrize("merge", [Add, Concatenate])
    def test_one_vector_from_branches_of_different_strides(self, merge):
        net = build(
            *(MaxPool(2), MaxPool(4, name="a")),
            Convolution(2, 7, name="b", inputs=("image",)),
            MaxPool(2, 1, name="c"),
            merge(inputs=("a", "c")),
        )
        assert (net.nodes["a"].output.spacing, net.nodes["c"].output.spacing) == ((8, 8), (1, 1))
        assert net.receptive_field == (8, 8)

    def test_a_crop_counts_into_the_receptive_field(self):
        net = build(MaxPool((2, 1)), Crop((1, 2, 0, 4)), FullyConnected(1))
        assert net.nodes["crop1"].output.size == (3, 2)
        assert net.nodes["crop1"].output.extent == (4, 7)
        assert net.receptive_field == (8, 8)


class TestNoNet:
    @pytest.mark.parametrize(
        ("layers", "message"),
        [
            ([], "layers is empty; expected at least one layer"),
            (
                [ReLU(name="a"), Convolution(1, 8, name="a")],
                "layer 'a': the name is taken; expected a new one",
            ),
            (
                [ReLU(name="conv1"), Convolution(1, 8)],
                "layer 'conv1': the name is taken; expected a new one",
            ),
            (
                [Convolution(1, 8, name="image")],
                "layer 'image': the name is taken; expected a new one",
            ),
            (
                [ReLU(), Convolution(1, 8, inputs=("relu2",))],
                "layer 'conv1' reads 'relu2'; expected one of the layers before it: image, relu1",
            ),
            (
                [ReLU(), ReLU(), Convolution(1, 8, inputs=("image",))],
                "nothing reads 'relu2'; expected every layer but the last to be read",
            ),
            (
                [ReLU(), Add(), Convolution(1, 8)],
                "layer 'add1' has 1 inputs; expected at least two, as in "
                "Add(inputs=('relu1', 'conv2'))",
            ),
            (
                [ReLU(), Concatenate(inputs=("image",))],
                "layer 'concatenate1' has 1 inputs; expected at least two",
            ),
            (
                [ReLU(), Convolution(1, 8, inputs=("relu1", "image"))],
                "layer 'conv1' has 2 inputs; expected one",
            ),
            (
                [Convolution(3, 1, name="a"), Add(inputs=("a", "image")), FullyConnected(1)],
                "layer 'add1': its inputs have 3 and 2 channels; expected equal numbers",
            ),
            (
                [LeakyReLU(-0.1), Convolution(1, 8)],
                "layer 'leaky_relu1': slope is -0.1; expected a number above 0",
            ),
            (
                [Convolution(1, 8), ELU(0)],
                "layer 'elu1': alpha is 0; expected a number above 0",
            ),
            (
                [Convolution(1, (8, 9))],
                "layer 'conv1': its window spans 8 x 9 cells of a map of 8 x 8; expected a smaller "
                "kernel or a larger patch",
            ),
            (
                [MaxPool(2), AveragePool(3, dilation=(1, 2))],
                "layer 'average1': its window spans 3 x 5 cells of a map of 4 x 4; ",
            ),
            (
                [Crop((3, 0, 5, 0)), FullyConnected(1)],
                "layer 'crop1': margins (3, 0, 5, 0) leave nothing of a 8 x 8 map",
            ),
            (
                [Crop((1, 1)), FullyConnected(1)],
                "layer 'crop1': margins is (1, 1); expected (top, left, bottom, right), ",
            ),
            (
                [Convolution(1, 0)],
                "layer 'conv1': kernel is 0; expected an int or a pair (y, x) of ints ",
            ),
            (
                [MaxPool(2, (2, 1.5))],
                "layer 'max1': stride is (2, 1.5); expected an int or a pair (y, x) of ints ",
            ),
            (
                [Convolution(1, 8, padding=-1)],
                "layer 'conv1': padding is -1; expected an int or a pair (y, x) of ints ",
            ),
            (
                [AdaptiveMaxPool((1, 0))],
                "layer 'max1': bins is (1, 0); expected an int or a pair (y, x) of ints ",
            ),
            ([Convolution(0, 8)], "layer 'conv1': filters is 0; expected "),
            ([Convolution(2.5, 8)], "layer 'conv1': filters is 2.5; expected "),
            ([FullyConnected(2**31)], "layer 'fc1': features is 2147483648; expected "),
            ([FullyConnected(1, bias="no")], "layer 'fc1': bias is 'no'; expected True or False"),
            ([FullyConnected(1, bias=1)], "layer 'fc1': bias is 1; expected True or False"),
            ([MaxPool(2, ceil_mode=None)], "layer 'max1': ceil_mode is None; expected True or "),
            *(
                ([BatchNorm(epsilon=e)], f"layer 'norm1': epsilon is {e!r}; expected a number abo")
                for e in (0, -1, 1e-40, 1e39, float("nan"), None, "x", True)
            ),
            *(
                ([Dropout(r)], f"layer 'dropout1': rate is {r!r}; expected a number of at least 0")
                for r in (1, -0.1, float("nan"), None, "a", False)
            ),
            ([FullyConnected(-1)], "layer 'fc1': features is -1; expected "),
            (
                [BatchNorm(statistics="running"), FullyConnected(1)],
                "layer 'norm1': statistics is 'running'; expected one of 'frozen', 'batch'",
            ),
        ],
    )
    def test_layers(self, layers, message):
        with refuses(ValueError, message):
            build(*layers)

    @pytest.mark.parametrize(
        ("layers", "message"),
        [
            ([ReLU(), "conv"], "layers[1] is a str; expected a layer of net.layers"),
            ([None], "layers[0] is a NoneType; expected a layer of net.layers"),
            (
                [Convolution(1, 8), ReLU],
                "layers[1] is the class ReLU; expected an instance: ReLU(...)",
            ),
        ],
    )
    def test_not_a_layer(self, layers, message):
        with refuses(TypeError, message):
            build(*layers)

    @pytest.mark.parametrize(
        ("layers", "what"),
        [(Convolution(1, 8), "a Convolution"), (None, "a NoneType"), ("conv", "a str")],
    )
    def test_no_list(self, layers, what):
        message = f"layers is {what}; expected a list of layers, also of a single one"
        with refuses(TypeError, message):
            Net(layers, channels=1, patch=8, backend="reference")

    @pytest.mark.parametrize(
        ("inputs", "shown"), [("image", "'image'"), ((), "()"), ((ReLU(),), "(ReLU("), (1, "1")]
    )
    def test_inputs(self, inputs, shown):
        message = f"layers[0]: inputs is {shown}"
        with refuses(ValueError, message, "expected a tuple of names of layers"):
            build(FullyConnected(1, inputs=inputs))

    @pytest.mark.parametrize("name", ["", 1, "a\nb", b"a"])
    def test_name(self, name):
        message = f"layers[0]: name is {name!r}; expected a printable text, or None"
        with refuses(ValueError, message):
            build(FullyConnected(1, name=name))

    def test_an_option_that_a_layer_does_not_have(self):
        message = "Convolution is given out_channels; expected name, inputs, filters, kernel, "
        with refuses(TypeError, message):
            Convolution(out_channels=3, kernel=2)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            *(
                ({"channels": c}, f"channels is {c!r}; expected an int of at least 1")
                for c in (0, -1, 1.0, "1", True)
            ),
            *(
                (
                    {"patch": p},
                    f"patch is {p!r}; expected an int or a pair (y, x) of ints of at least 1",
                )
                for p in (0, 8.0, (8,), (8, -8), (8, 8, 8))
            ),
            ({"dtype": "float16"}, "dtype is 'float16'; expected one of 'float32', 'float64'"),
            *(
                ({"dtype": d}, f"dtype is {d!r}; expected one of 'float32', 'float64'")
                for d in (None, int, np.float16, np.dtype(">f4"), ReLU)
            ),
            *(
                ({"seed": s}, f"seed is {s!r}; expected an int of at least 0")
                for s in (None, -1, 1.5, True, "0")
            ),
            ({"seed": 2**64}, "seed is 18446744073709551616; expected an int of at most 1844"),
            ({"initializer": "zeros"}, "initializer is 'zeros'; expected one of 'he', 'glorot'"),
            ({"backend": "torch"}, "backend is 'torch'; expected one of 'auto', 'cuda', "),
        ],
        ids=str,
    )
    def test_options(self, options, message):
        with refuses(ValueError, message):
            build(FullyConnected(1), **options)


class TestTaken:
    """Numbers of NumPy and lists in place of tuples, kept as Python's own."""

    def test_by_a_layer(self):
        given = Convolution(np.int64(2), [np.uint8(3), 2], bias=np.True_, inputs=["image"])
        kept = Convolution(2, (3, 2), bias=True, inputs=("image",))
        assert given == kept
        assert repr(given) == repr(kept)
        assert Dropout(np.float32(0.5)) == Dropout(0.5)

    @pytest.mark.parametrize("dtype", [np.float64, np.dtype("float64"), "float64"])
    def test_by_a_net(self, dtype):
        options = {"channels": np.int32(2), "patch": np.array([8, 7])[[1, 0]].tolist()}
        net = build(FullyConnected(1), dtype=dtype, seed=np.uint64(3), **options)
        assert (net.dtype, net.channels, net.patch) == ("float64", 2, (7, 8))
        other = build(FullyConnected(1), dtype="float64", seed=3, channels=2, patch=(7, 8))
        weights = [n.parameters["fc1.weights"] for n in (net, other)]
        np.testing.assert_array_equal(*weights)


@pytest.mark.cpu
def test_a_net_that_has_no_room():
    with pytest.raises(MemoryError, match=r"^a net of these layers takes .* GB are free; expected"):
        build(Convolution(2**20, 1), Convolution(2**28, 8), backend="cpu")
