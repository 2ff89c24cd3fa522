"""The networks of the tables. Each maps its patch to 1 x 1 and reads all of it (R = p)."""

from functools import partial

from kernels import checks
from net.graph import Net
from net.layers import BatchNorm, Convolution, FullyConnected, MaxPool, ReLU, Tanh


def lenet28(classes=10, **options):
    """LeNet-like, 28 x 28, grey.

    >>> lenet28(backend="cpu").receptive_field
    (28, 28)
    """
    layers = [
        *(Convolution(20, 5), ReLU(), MaxPool(2)),
        *(Convolution(50, 5), ReLU(), MaxPool(2)),
        *(FullyConnected(500), ReLU(), FullyConnected(checks.count("classes", classes))),
    ]
    return Net(layers, channels=1, patch=28, **options)


def n4(classes=2, **options):
    """N4 of Ciresan et al., NIPS 2012 (neuronal membranes), 95 x 95, grey.

    >>> n4(classes=3, backend="cpu").output.channels
    3
    """
    layers = [
        *(Convolution(48, 4), Tanh(), MaxPool(2)),
        *(Convolution(48, 5), Tanh(), MaxPool(2)),
        *(Convolution(48, 4), Tanh(), MaxPool(2)),
        *(Convolution(48, 4), Tanh(), MaxPool(2)),
        *(FullyConnected(200), Tanh(), FullyConnected(checks.count("classes", classes))),
    ]
    return Net(layers, channels=1, patch=95, **{"initializer": "glorot"} | options)


def plain133(classes=8, **options):
    """Kernel sizes of Pinheiro & Collobert, ICML 2014 (map counts are ours), 133 x 133, colour.

    >>> plain133(backend="cpu").nodes["max1"].window.stride
    (8, 8)
    """
    layers = [
        *(Convolution(25, 6), Tanh(), MaxPool(8)),
        *(Convolution(50, 3), Tanh(), MaxPool(2)),
        *(Convolution(32, 7), Tanh(), FullyConnected(checks.count("classes", classes))),
    ]
    return Net(layers, channels=3, patch=133, **{"initializer": "glorot"} | options)


def rcnn25(classes=8, **options):
    """Kernel sizes of one instance of Pinheiro & Collobert's recurrent net, 25 x 25, colour.

    >>> rcnn25(backend="cpu").nodes["conv2"].weights_shape
    (50, 25, 8, 8)
    """
    layers = [
        *(Convolution(25, 8), Tanh(), MaxPool(2)),
        *(Convolution(50, 8), Tanh(), MaxPool(2)),
        FullyConnected(checks.count("classes", classes)),
    ]
    return Net(layers, channels=3, patch=25, **{"initializer": "glorot"} | options)


def featurenet(patch, classes=3, **options):
    """DeepCell's feature net (Van Valen et al., PLoS Comput Biol 2016) of one patch size, grey.

    >>> [str(featurenet(31, backend="cpu").nodes[f"max{n}"].output) for n in (1, 2)]
    ['13 x 13', '4 x 4']
    """
    layers, rest, convolutions = [], checks.count("patch", patch), 0
    while rest > 4:
        kernel = 3 if rest % 2 == 0 else 4
        layers += [Convolution(64, kernel), BatchNorm(), ReLU()]
        rest -= kernel - 1
        convolutions += 1
        if convolutions % 2 == 0:
            layers += [MaxPool(2)]
            rest //= 2
    layers += [Convolution(200, rest), BatchNorm(), ReLU()]
    layers += [
        Convolution(200, 1),
        BatchNorm(),
        ReLU(),
        Convolution(checks.count("classes", classes), 1),
    ]
    return Net(layers, channels=1, patch=patch, **options)


def strided67(classes=8, **options):
    """A strided convolution and overlapping pools (ours), 67 x 67, colour.

    >>> strided67(backend="cpu").nodes["fc1"].sources[0].spacing  # the accumulated stride
    (8, 8)
    """
    layers = [
        *(Convolution(32, 7, stride=2), ReLU(), MaxPool(3, stride=2)),
        *(Convolution(48, 3), ReLU(), MaxPool(3, stride=2)),
        *(FullyConnected(200), ReLU(), FullyConnected(checks.count("classes", classes))),
    ]
    return Net(layers, channels=3, patch=67, **options)


def authors133(classes=32, **options):
    """A test net that lies in another group's code for this method, 133 x 133, colour.

    Read there (``uta-smile/caffe-fastfpbp``, ``test_net/test_sk_back``): the layers, their order
    (convolution, pooling, tanh), 32 classes and the initial weights' kind (xavier). Inferred, not
    proven: that it is from the authors' own release, and the net which the paper calls plain CNN.

    >>> authors133(backend="cpu").nodes["conv3"].weights_shape
    (32, 50, 7, 7)
    """
    layers = [
        *(Convolution(50, 6), MaxPool(8), Tanh()),
        *(Convolution(50, 3), MaxPool(2), Tanh()),
        Convolution(checks.count("classes", classes), 7),
    ]
    return Net(layers, channels=3, patch=133, **{"initializer": "glorot"} | options)


def greentea102(classes=2, **options):
    """The benchmark net of Greentea (Tschopp, arXiv:1509.03371), 102 x 102, colour.

    Read in its published benchmark (``naibaf7/caffe_neural_models``, ``benchmark``): the layers and
    their sizes.

    >>> greentea102(backend="cpu").nodes["fc1"].window.kernel
    (10, 10)
    """
    layers = [
        *(Convolution(48, 7), ReLU(), MaxPool(2)),
        *(Convolution(128, 5), ReLU(), MaxPool(2)),
        *(Convolution(192, 3), ReLU(), MaxPool(2)),
        *(
            FullyConnected(1024),
            ReLU(),
            FullyConnected(512),
            ReLU(),
            FullyConnected(checks.count("classes", classes)),
        ),
    ]
    return Net(layers, channels=3, patch=102, **options)


ZOO = {
    "lenet28": lenet28,
    "n4": n4,
    "plain133": plain133,
    "rcnn25": rcnn25,
    "featurenet31": partial(featurenet, 31),
    "featurenet61": partial(featurenet, 61),
    "strided67": strided67,
    "authors133": authors133,
    "greentea102": greentea102,
}


def build(name: str, **options) -> Net:
    """The net ``name`` of the zoo; ``options`` are ``classes`` and those of ``net.Net``.

    Raises:
        ValueError: the zoo has no such net.

    >>> build("n4", classes=3, backend="cpu").output.channels
    3
    """
    return ZOO[checks.choice("name", name, tuple(ZOO))](**options)
