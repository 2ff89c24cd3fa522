"""From the options of ``python -m experiments profile``: what is to be profiled, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass

from experiments.profiling import calls, static
from experiments.profiling.calls import Call
from experiments.profiling.devices import DEVICES, Capability, Device
from experiments.profiling.operators import OPERATORS, OperatorCase
from kernels import get_backend
from kernels.activation import ACTIVATIONS, Activation, activation_of
from kernels.backends import BackendUnavailable
from net.zoo import ZOO

MOST_ELEMENTS = 2**31 - 1
"""Elements of the largest array that the CUDA kernels can index."""


@dataclass(frozen=True)
class FactSources:
    """The sources of facts to ask.

    Attributes:
        names: ``static``, ``traced``, ``model``, ``host`` or ``timed``.
        capabilities: the compute capabilities that the static source compiles for.
        devices: the devices of the model.
    """

    names: tuple[str, ...]
    capabilities: list[Capability]
    devices: list[Device]

    @classmethod
    def of(cls, options) -> FactSources:
        """Those that the options ask for.

        Raises:
            ValueError: an architecture or a device is unknown.
            static.NotReadable, BackendUnavailable: a source is not available here.
        """
        sources = ("static", "traced") if options.targets else options.sources
        host = ["host"] if options.nets and "dense" in options.form else []
        sources = sources or ("static", "traced", "model", *host, *_timed_if_possible())
        if "host" in sources and not host:
            raise ValueError("--sources names host; expected nets in their dense form")
        unknown = [name for name in options.devices or () if name not in DEVICES]
        if unknown:
            raise ValueError(
                f"--devices names {', '.join(unknown)}; expected some of {', '.join(DEVICES)}"
            )
        capabilities = [static.parse_capability(name) for name in options.arch.split(",")]
        if {"static", "model"} & set(sources):
            static.check()
        if "timed" in sources:
            get_backend("cuda")
        devices = [DEVICES[name] for name in options.devices or DEVICES]
        return cls(tuple(sources), capabilities, devices)


def _timed_if_possible():
    try:
        get_backend("cuda")
    except BackendUnavailable:
        return ()
    return ("timed",)


def jobs(options) -> list[tuple[dict, list[Call]]]:
    """The calls of each net and form, or of the operator, and the columns that identify them.

    Empty for targets.

    Raises:
        ValueError, TypeError: the options name nothing that can run.
    """
    if bool(options.nets) + bool(options.operator) + options.targets != 1:
        raise ValueError("expected either nets of the zoo, or --operator, or --targets")
    if options.targets:
        return []
    if options.operator:
        return [({"net": "", "form": "", "size": ""}, [calls.of_case(_case(options))])]
    unknown = [name for name in options.nets if name not in ZOO]
    if unknown:
        raise ValueError(f"net is {', '.join(unknown)}; expected some of {', '.join(ZOO)}")
    return [
        (
            {"net": net, "form": form, "size": options.size},
            calls.of_net(net, options.size, form, batch=options.batch, backward=options.backward),
        )
        for net in options.nets
        for form in options.form
    ]


def _case(options):
    if options.operator not in OPERATORS:
        raise ValueError(
            f"--operator is {options.operator}; expected one of {', '.join(OPERATORS)}"
        )
    if not options.shape:
        raise ValueError("--operator needs --shape N C H W")
    filters = options.filters
    if options.operator.startswith("convolution.") and options.operator != (
        "convolution.gradient_bias"
    ):
        filters = filters or options.shape[1]
    case = OperatorCase(
        options.operator,
        tuple(options.shape),
        filters,
        *(tuple(getattr(options, name)) for name in ("kernel", "stride", "dilation")),
        options.activation and _activation(options.activation),
    )
    weights = (filters or 1, options.shape[1], *case.kernel)
    if max(map(math.prod, (case.shape, weights))) > MOST_ELEMENTS:
        raise ValueError(
            f"--shape is {' '.join(map(str, case.shape))}, and weights are "
            f"{' x '.join(map(str, weights))}; expected at most {MOST_ELEMENTS} elements each"
        )
    return case


def _activation(words):
    """What the words after --activation name: an activation, and its parameter if it has one."""
    name, *parameter = words
    try:
        activation = activation_of(Activation(name, *map(float, parameter)))
    except (TypeError, ValueError):
        named = (f"{name} {parameter or ''}".strip() for name, parameter in ACTIVATIONS.items())
        raise ValueError(
            f"--activation is {' '.join(words)}; expected one of {', '.join(named)}, where a "
            "parameter is a number above 0"
        ) from None
    return activation if parameter else name


def folder_name(options) -> str:
    """The name of the folder for the results, made from the options."""
    if options.targets:
        return "targets"
    if options.operator:
        return options.operator.replace(".", "-")
    direction = ["backward"] if options.backward else []
    return "-".join([*options.nets, *options.form, str(options.size), *direction])
