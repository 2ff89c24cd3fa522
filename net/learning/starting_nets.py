"""Where a net to train comes from: a name, a file of a net, or a description in TOML."""

from __future__ import annotations

import tomllib
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from kernels import BACKENDS, checks
from net import zoo
from net.description import net_options
from net.file_format import MAX_HEADER, an_object, quoted
from net.files import checked_file
from net.graph import LARGEST_SEED, Net
from net.learning.checkpoint import load_net
from net.learning.scales import scales
from net.usage import Usage

KEYS = tuple(one.name for one in fields(Usage))
NAMES = ("scales", *zoo.ZOO)


def net_of(
    source: str | Path, classes: int, channels: int, *, seed: int = 0, backend: str = "auto"
) -> Net:
    """A net of ``classes`` classes for images of ``channels`` channels.

    Args:
        source: ``scales``, a name of ``net.zoo``, a ``.toml`` file with the keys of the document in
            a net's file (docs/file-format.md), or such a file itself, whose net learns on. In TOML
            the net may lack ``channels`` and ``dtype``, and be given a ``patch`` of one number.
        seed: seed of the first weights of a net that is new.

    Raises:
        ValueError: a file that is wrong, or a net of other classes or channels.
        OSError: a file cannot be read.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
    ...     _ = file.write('''
    ... border = "zero"
    ... [net]
    ... patch = 5
    ... layers = [
    ...     {kind = "Convolution", filters = 8, kernel = 3}, {kind = "ReLU"},
    ...     {kind = "FullyConnected", features = 2},
    ... ]''')
    ...     file.flush()
    ...     net = net_of(file.name, classes=2, channels=1, backend="reference")
    >>> net.patch, net.usage.border
    ((5, 5), 'zero')
    """
    classes, channels = checks.count("classes", classes), checks.count("channels", channels)
    seed = checks.count("seed", seed, 0, LARGEST_SEED)
    options = {"seed": seed, "backend": checks.choice("backend", backend, BACKENDS)}
    if isinstance(source, str) and source == "scales":
        net = scales(classes, channels, **options)
    elif isinstance(source, str) and source in zoo.ZOO:
        net = zoo.build(source, classes=classes, **options)
    elif (path := _file(source)).suffix == ".toml":
        with _reading(path) as document:
            described = {"channels": channels, "dtype": "float32"} | an_object(
                "net", document["net"]
            )
            if type(described.get("patch")) is int:
                described["patch"] = [described["patch"]] * 2
            net = Net(**net_options(described), **options)
            net.usage = _usage(document)
    else:
        net = load_net(path, backend=backend)
    for what, count, asked in (
        ("channels", net.channels, channels),
        ("classes", net.output.channels, classes),
    ):
        if count != asked:
            raise ValueError(f"source {str(source)!r} has {count} {what}; the images have {asked}")
    return net


def usage_of(source: str | Path) -> Usage | None:
    """What the file that ``net_of`` reads says of how its net is used; None where nothing does.

    >>> usage_of("lenet28") is None
    True
    """
    if isinstance(source, str) and source in NAMES:
        return None
    path = _file(source)
    if path.suffix != ".toml":
        return load_net(path, backend="reference").usage
    with _reading(path) as document:
        return _usage(document)


def _file(source) -> Path:
    path = checked_file("source", source)
    if not path.exists():
        raise ValueError(
            f"source is {str(source)!r}; expected a file, or one of {', '.join(NAMES)}"
        )
    return path


@contextmanager
def _reading(path):
    """The document of a TOML file; a ValueError in the block names the file."""
    with open(path, "rb") as file:
        text = file.read(MAX_HEADER + 1)
    try:
        if len(text) > MAX_HEADER:
            raise ValueError(f"it takes more than {MAX_HEADER} bytes")
        yield {"net": None} | tomllib.loads(text.decode())
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} describes no net: {str(error)[:1000]}") from None


def _usage(document) -> Usage | None:
    unknown = document.keys() - {"net", *KEYS}
    if unknown:
        raise ValueError(f"it holds {quoted(sorted(unknown))}; expected net, {', '.join(KEYS)}")
    if "label_rule" in document:
        rule = an_object("label_rule", document["label_rule"])
        document["label_rule"] = {"unlabelled": 0, "values": None} | rule
    return Usage.rebuilt(document)
