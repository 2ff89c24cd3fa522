"""What tests.test_bad_arguments does not call with bad values, each with the reason."""

from kernels.backends import OPERATORS

_CHECKS = "the checks of the operators, which are called with bad values themselves"
APART = {
    **{f"kernels.{operator}": _CHECKS for operator in OPERATORS if operator != "activation"},
    "kernels.checks": "the checks themselves: tests/test_checks.py",
    "kernels.code_cache": "keeps compiled code, called where modules are imported",
    "kernels.foreign": "takes whatever it is given: tests/exchange/test_tensors.py",
    "kernels.host": "what the host's operators are made of, called with what they checked",
    "kernels.device": "what the device's operators are made of, called with what they checked",
    "net.__main__": "the command line: tests/net/test_old_runs.py",
    "net.borders": "numbers of patches and images, called with what Net and Dense checked",
    "net.chosen": "called by Dense, Scan and Trainer, which pass on what they are given",
    "net.exchange.extras": "imports a package that its caller names",
    "net.exchange.forms": "called with nets that to_torch and to_onnx have checked",
    "net.exchange.onnx_nodes": "written by to_onnx alone, of a net that it checked",
    "net.exchange.torch_arguments": "called by from_torch alone, with what it traced",
    "net.exchange.torch_graph": "called by from_torch alone, with what it checked and traced",
    "net.exchange.torch_layers": "called by from_torch alone, with what it checked and traced",
    "net.exchange.torch_operations": "called by from_torch alone, with what it traced",
    "net.description": "reads and writes files: tests/net/test_checkpoint_refusals.py",
    "net.file_format": "reads and writes files: tests/net/test_file_format.py",
    "net.files": "checks paths and writes, called by those who take a path",
    "net.images": "called by Dense, Scan and Trainer, which pass on what they are given",
    "net.initialization": "called by Net alone, with what it checked",
    "net.ledger": "blocks of a plan, made by net.planning alone",
    "net.options": "the checks of layers and learning rules, which are called themselves",
    "net.passes": "records that the steps of a pass share",
    "net.planning": "called by Dense, Scan, Trainer and calibrate alone, with what they checked",
    "net.room": "a check, called with numbers that net.planning gives",
    "net.steps": "made by net.conversion alone",
    "net.branch_steps": "made by net.conversion alone",
    "net.listed_steps": "made by net.needed_pass alone, of what was checked",
    "net.needed_cells": "made by net.needed_pass alone, with pixels that were checked",
    "net.needed_pass": "made by Dense alone, with pixels that were checked",
    "net.windows": "called by net.chosen and net.needed_pass, with what Dense was given",
    "net.tables": "lays out texts and pairs that were made here",
}
"""Modules and packages of which nothing is called."""

_OF_GRAPH = "made by net.nodes alone, for net.graph to read"
_OF_TRAINER = "made by Trainer alone, of what it checked"
_OF_UPDATE = "called by Trainer alone, with the net, the slots and the gradients that it holds"
_OF_FILES = "reads what a file holds: tests/net/test_checkpoint_refusals.py and test_mutants.py"
_OF_FORMS = "called by Dense, Scan and Fragments, with arrays that they checked and entered"
_OF_OPERATORS = "called by the operators and by net.nodes, with sizes that they checked"
NOT_CALLED = {
    "kernels.backends.Backend": "made by get_backend alone",
    "kernels.backends.BackendUnavailable": "an error",
    "kernels.activation.Activation": "a record, which activation_of checks",
    "kernels.activation.check_forward": "a check, called by the operators",
    "kernels.activation.check_backward": "a check, called by the operators",
    "net.maps.NotConvertible": "an error",
    "net.layers.Layer": "the base of the layers",
    "net.layers.ActivationLayer": "the base of the activations",
    "net.maps.Map": _OF_GRAPH,
    "net.maps.Map.through": _OF_GRAPH,
    "net.maps.Map.cropped": _OF_GRAPH,
    "net.maps.merged": _OF_GRAPH,
    "net.nodes.Node": _OF_GRAPH,
    "net.nodes.Node.weights_shape": _OF_GRAPH,
    "net.nodes.Node.parameters": _OF_GRAPH,
    "net.nodes.linked": "called by Net and checkpoints alone, with numbers that they checked",
    "net.conversion.with_drops": "called with steps that steps_of made",
    "net.program.Program.of_steps": "called by net.listed_steps with steps that it made",
    "net.dense.Dense.framed": "called with images that net.images.admitted_image has checked",
    "net.learning.optimizers.SGD.update": _OF_UPDATE,
    "net.learning.optimizers.Adam.update": _OF_UPDATE,
    "net.learning.training.Targets": _OF_TRAINER,
    "net.learning.training.Targets.of": _OF_TRAINER,
    "net.learning.training.Targets.loss": _OF_TRAINER,
    "net.learning.training.Targets.error": _OF_TRAINER,
    "net.learning.training.Trainer.counting": "called with labels that were checked",
    "net.learning.training.Trainer.check_memory": "called with images that were checked",
    "net.learning.training.checked_labels": "a check, called by Trainer and fit",
    "net.learning.checkpoint.checked": _OF_FILES,
    "net.usage.Usage.check": "called with the numbers of a net",
    "net.usage.Usage.described": _OF_FILES,
    "net.usage.Usage.rebuilt": _OF_FILES,
    "net.usage.labels.is_color": "a question, asked of anything",
    "net.learning.checkpoint.history_described": _OF_FILES,
    "net.learning.checkpoint.Run": _OF_FILES,
    **dict.fromkeys(
        (
            "net.program.Tape",
            "net.program.added",
            *(f"net.program.Program.{name}" for name in ("forward", "run", "advance", "backward")),
        ),
        _OF_FORMS,
    ),
    **dict.fromkeys(
        (
            "kernels.window.Window",
            *(f"kernels.window.Window.{name}" for name in ("output_size", "taps", "effective")),
            "kernels.window.PoolingShape",
            *(f"kernels.window.PoolingShape.{name}" for name in ("of_input", "of_error")),
        ),
        _OF_OPERATORS,
    ),
}
