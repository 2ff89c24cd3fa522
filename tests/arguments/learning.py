"""Arguments of what learns: ``net.learning``."""

from pathlib import Path

import numpy as np

from net.learning import checkpoint, fitting, old_runs, sampling
from net.learning.optimizers import SGD, Adam, Cosine, Stepwise
from net.learning.training import Trainer
from tests.arguments.entries import (
    A_FLAG,
    A_PATH,
    ABOVE_0,
    ANY_NUMBERS,
    FROM_0,
    NONE,
    SHARE,
    ZERO,
    Call,
    Entry,
    an_error,
    call_of,
    everywhere,
    image,
    labels,
    method_of,
    small_net,
    some_pixels,
)

OLD_RUN = Path(__file__).parents[1] / "net" / "version-1.npz"


def trainer(form="dense"):
    return Trainer(small_net(), SGD(0.1), form=form)


def _convert():
    Path("new").unlink(missing_ok=True)
    return Call(old_runs.convert, {"old": OLD_RUN, "new": "new"})


def _reading(load, **more):
    """A call of a function that reads the file of a run."""

    def fresh():
        checkpoint.save("run.safetensors", trainer())
        given = {"path": "run.safetensors", "backend": "reference"}
        return Call(load, given | {name: make() for name, make in more.items()})

    return fresh


def _examples():
    return [image()], [labels()]


CALLS = {
    "net.learning.optimizers.Cosine": Entry(call_of(Cosine, rate=0.1, steps=3), {"rate": FROM_0}),
    "net.learning.optimizers.Stepwise": Entry(
        call_of(Stepwise, rate=0.1, every=3, factor=0.5), {"rate": FROM_0, "factor": SHARE}
    ),
    "net.learning.optimizers.SGD": Entry(
        call_of(SGD, rate=0.1, momentum=0.5, decay=0.1),
        {"rate": FROM_0, "momentum": SHARE, "decay": FROM_0},
    ),
    "net.learning.optimizers.Adam": Entry(
        call_of(Adam, rate=0.1, beta1=0.5, beta2=0.5, epsilon=1e-8, decay=0.1),
        {"rate": FROM_0, "beta1": SHARE, "beta2": SHARE, "epsilon": ABOVE_0, "decay": FROM_0},
    ),
    "net.learning.sampling.balanced_mask": Entry(
        call_of(
            sampling.balanced_mask,
            labels=labels,
            pixels=3,
            rng=lambda: np.random.default_rng(0),
        )
    ),
    "net.learning.training.Trainer": Entry(
        call_of(
            Trainer,
            net=small_net,
            optimizer=lambda: SGD(0.1),
            border="valid",
            class_weights=(1.0, 2.0),
            seed=0,
            form="dense",
            batch=2,
        ),
        {"class_weights": NONE, "seed": ZERO},
    ),
    "net.learning.training.Trainer.step": Entry(
        method_of(trainer, "step", image=image, labels=labels, mask=everywhere, pixels=None),
        {"mask": NONE, "pixels": NONE},
    ),
    "net.learning.training.Trainer.gradients": Entry(
        method_of(
            trainer,
            "gradients",
            image=image,
            labels=lambda: np.array([0, 1]),
            mask=None,
            pixels=some_pixels,
        ),
        {"image": ANY_NUMBERS, "mask": NONE},
        called={"pixels": "labels"},
    ),
    "net.learning.training.Trainer.loss": Entry(
        method_of(trainer, "loss", scores=an_error, labels=labels, mask=everywhere)
    ),
    "net.learning.fitting.fit": Entry(
        call_of(
            fitting.fit,
            trainer=trainer,
            examples=_examples,
            epochs=1,
            pixels=3,
            validation=_examples,
            log="log.csv",
            checkpoint="run.safetensors",
            save_every=1,
            progress=False,
        ),
        {
            "validation": NONE,
            "log": NONE | A_PATH,
            "checkpoint": NONE | A_PATH,
            "save_every": NONE,
            "progress": A_FLAG,
        },
    ),
    "net.learning.fitting.measure": Entry(
        call_of(fitting.measure, trainer=trainer, examples=_examples)
    ),
    "net.learning.checkpoint.save": Entry(
        call_of(checkpoint.save, path="run.safetensors", trainer=trainer), {"path": A_PATH}
    ),
    "net.learning.old_runs.convert": Entry(_convert, {"new": A_PATH}),
    "net.learning.checkpoint.load": Entry(
        _reading(checkpoint.load, expected=small_net), {"expected": NONE}
    ),
    "net.learning.checkpoint.load_net": Entry(_reading(checkpoint.load_net)),
    "net.learning.checkpoint.of_run": Entry(call_of(checkpoint.of_run, trainer=trainer)),
}
