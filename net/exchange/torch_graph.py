"""A module of PyTorch as a graph of ``torch.fx``, and what its nodes call."""

from __future__ import annotations

from copy import deepcopy

from net.exchange.activations import COUNTERPARTS
from net.exchange.torch_operations import Operation, called_by, is_in_place
from net.maps import NotConvertible

KEEPS_CHANNELS = {
    *("max_pool", "average_pool", "adaptive_max_pool", "adaptive_average_pool", "softmax"),
    *("dropout", "crop", "same", *COUNTERPARTS),
}
"""Kinds of operations whose maps have as many channels as what they read."""


class Traced:
    """A module as a graph; modules of ``torch.nn`` stay what they are.

    Args:
        torch: the package.
        module: ``torch.nn.Module``, on the host.

    Raises:
        NotConvertible: it cannot be traced, or changes in place what is read later.
    """

    def __init__(self, torch, module):
        self.torch = torch
        try:
            is_graph = isinstance(module, torch.fx.GraphModule)
            graph = deepcopy(module.graph) if is_graph else torch.fx.Tracer().trace(module)
            self.module = torch.fx.GraphModule(module, graph)
        except Exception as error:  # whatever its code does with what stands for a tensor
            raise NotConvertible(
                f"module: torch.fx cannot trace it ({type(error).__name__}: {error}); expected a "
                "forward that branches on no value of a tensor, or an nn.Sequential"
            ) from error
        self._check_in_place()
        self.module.graph.eliminate_dead_code()

    @property
    def nodes(self):
        """The nodes in the order in which they run."""
        return self.module.graph.nodes

    def is_node(self, value) -> bool:
        """Whether an argument of a node stands for what another node makes."""
        return isinstance(value, self.torch.fx.Node)

    def path(self, node) -> str:
        """The path of the module that a node calls, or that calls its function."""
        if node.op == "call_module":
            return node.target
        stack = [key.partition("@")[0] for key in node.meta.get("nn_module_stack") or ()]
        return stack[-1] if stack and stack[-1] else "module"

    def call(self, node) -> tuple[str, Operation | None, dict]:
        """The name of what a node calls, its operation, and its arguments by name."""
        module = self.module.get_submodule(node.target) if node.op == "call_module" else None
        name, operation = called_by(self.torch, node, module)
        if operation is None:
            return name, None, {}
        options = dict(zip(operation.arguments, node.args))
        options |= {key: value for key, value in node.kwargs.items() if not key.startswith("_")}
        if module is not None:
            of_module = [one for one in operation.arguments[1:] if hasattr(module, one)]
            options |= {one: getattr(module, one) for one in of_module}
        return name, operation, options

    def constant(self, value):
        """An argument; where it stands for a parameter or a buffer, that."""
        if not self.is_node(value) or value.op != "get_attr":
            return value
        member = self.module
        for part in value.target.split("."):
            member = getattr(member, part)
        return member

    def channels(self) -> int:
        """Number of channels of the image, as told by the first layer with weights that reads it.

        Raises:
            ValueError: none does.
        """
        of_image = {node for node in self.nodes if node.op == "placeholder"}
        for node in self.nodes:
            if not node.op.startswith("call_") or not set(node.all_input_nodes) & of_image:
                continue
            _, operation, options = self.call(node)
            kind = operation and operation.kind
            if kind == "conv":
                groups = options.get("groups", 1)
                return self.constant(options["weight"]).shape[1] * groups
            mean = options.get("running_mean")
            if kind == "batch_norm" and mean is not None:
                return len(self.constant(mean))
            if kind in KEEPS_CHANNELS:
                of_image.add(node)
        raise ValueError(
            "channels is None; expected a number, as the module's first layers do not tell how "
            "many channels the image has"
        )

    def run(self, node, results: dict):
        """What a node makes of ``results``, by node.

        Raises:
            ValueError: PyTorch refuses them.
        """
        args, kwargs = (
            self.torch.fx.node.map_arg(given, results.__getitem__)
            for given in (node.args, node.kwargs)
        )
        try:
            if node.op == "call_module":
                return self.module.get_submodule(node.target)(*args, **kwargs)
            if node.op == "call_method":
                return getattr(args[0], node.target)(*args[1:], **kwargs)
            return node.target(*args, **kwargs)
        except Exception as error:  # whatever PyTorch says of patches of this size
            raise ValueError(f"patches of this size cannot run through it: {error}") from error

    def _check_in_place(self):
        order = {node: place for place, node in enumerate(self.nodes)}
        for node in order:
            if not node.op.startswith("call_") or not node.all_input_nodes:
                continue
            name, operation, options = self.call(node)
            if operation is None or not is_in_place(node, name, options):
                continue
            later = [user for user in node.all_input_nodes[0].users if order[user] > order[node]]
            if later:
                raise NotConvertible(
                    f"{self.path(node)}: {name} changes in place what {later[0].name} reads after "
                    "it; expected its form that is not in place"
                )
