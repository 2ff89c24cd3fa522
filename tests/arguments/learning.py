"""Arguments of what learns: ``net.learning``."""

from functools import partial
from pathlib import Path

import numpy as np

from net.learning import (
    checkpoint,
    fitting,
    old_runs,
    runs,
    sampling,
    scales,
    splitting,
    starting_nets,
)
from net.learning.augmentation import Augmentation
from net.learning.metrics import Metrics
from net.learning.optimizers import SGD, Adam, Cosine, Stepwise
from net.learning.targets import Share
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


def _metrics():
    return Metrics(np.array([[2, 1], [0, 3]]))


CALLS = {
    "net.learning.scales.scales": Entry(
        lambda: Call(
            partial(scales.scales, backend="reference"),
            {"classes": 2, "channels": 1, "filters": 1},
        )
    ),
    "net.learning.starting_nets.net_of": Entry(
        call_of(
            starting_nets.net_of,
            source="lenet28",
            classes=2,
            channels=1,
            seed=0,
            backend="reference",
        ),
        {"seed": ZERO},
    ),
    "net.learning.starting_nets.usage_of": Entry(call_of(starting_nets.usage_of, source="lenet28")),
    "net.learning.runs.train": Entry(
        call_of(
            runs.train,
            net=small_net,
            images=lambda: [image()],
            labels=lambda: [labels() + 1],
            axes="first",
            validation=lambda: ([image()], [labels() + 1]),
            steps=1,
            pixels=3,
            images_a_step=1,
            rate=0.1,
            schedule="stepwise",
            augmentation=Augmentation,
            class_weights=(1.0, 2.0),
            patience=1,
            seed=0,
            out=None,
            client=None,
            progress=False,
        ),
        {
            "axes": NONE,
            "augmentation": NONE,
            "class_weights": NONE,
            "patience": NONE,
            "seed": ZERO,
            "rate": ABOVE_0,
            "out": NONE | A_PATH,
            "client": NONE,
            "progress": A_FLAG,
        },
    ),
    "net.learning.metrics.Metrics.of": Entry(
        call_of(Metrics.of, truths=lambda: [labels()], predictions=lambda: [labels()], classes=2),
    ),
    "net.learning.metrics.Metrics.table": Entry(
        method_of(_metrics, "table", class_names=("a", "b"))
    ),
    "net.learning.splitting.by_image": Entry(
        call_of(splitting.by_image, number=3, share=0.5, seed=0), {"seed": ZERO}
    ),
    "net.learning.splitting.by_block": Entry(
        call_of(splitting.by_block, labels=labels, share=0.5, gap=1), {"gap": ZERO}
    ),
    "net.learning.augmentation.Augmentation": Entry(
        call_of(Augmentation, turns=True, flips=True, brightness=0.1, contrast=0.1, noise=0.1),
        {
            **dict.fromkeys(("turns", "flips"), A_FLAG),
            **dict.fromkeys(("brightness", "contrast", "noise"), FROM_0),
        },
    ),
    "net.learning.augmentation.Augmentation.sizes": Entry(
        method_of(Augmentation, "sizes", size=(4, 5))
    ),
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
    "net.learning.targets.Share": Entry(
        call_of(Share, draw=3, total_weight=2.0), {"draw": ZERO, "total_weight": ABOVE_0 | NONE}
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
            share=None,
        ),
        {"image": ANY_NUMBERS, "mask": NONE, "share": NONE},
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
            repeats=1,
            images_a_step=1,
            augmentation=Augmentation,
            validation=_examples,
            patience=1,
            log="log.csv",
            best="best.safetensors",
            picture=None,
            checkpoint="run.safetensors",
            save_every=1,
            client=None,
            progress=False,
        ),
        {
            "augmentation": NONE,
            "patience": NONE,
            "best": NONE | A_PATH,
            "log": NONE | A_PATH,
            "picture": NONE | A_PATH,
            "checkpoint": NONE | A_PATH,
            "save_every": NONE,
            "client": NONE,
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
