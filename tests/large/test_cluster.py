"""Two worker processes that label one image, one of which is killed; and that learn together."""

import os
import signal

import numpy as np
import pytest
import tifffile

from net.large import View, label, layouts, plan
from net.learning import learners
from net.learning.augmentation import Augmentation
from net.learning.examples import ListedLabels
from net.learning.fitting import fit
from net.learning.optimizers import Adam
from net.learning.training import Trainer
from tests.large.images import SOURCES, image_of, labels_of, net_of, read
from tests.net.learning import examples, small_net

pytestmark = pytest.mark.cpu


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, worker_dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("address", ["nonsense", "tcp://", ":", "tcp://host", "http://host:80"])
def test_addresses_that_are_none(address, tmp_path):
    pytest.importorskip("distributed")
    with pytest.raises(ValueError, match=f"client is '{address}'; expected such as 'tcp://host"):
        plan(image_of(), net_of(), tmp_path / "labels.npy", client=address)


def test_a_client_that_is_closed(client, tmp_path):
    closed = type(client)(client.scheduler.address, set_as_default=False)
    closed.close()
    with pytest.raises(ValueError, match="client is closed; expected one that is connected"):
        plan(image_of(), net_of(), tmp_path / "labels.npy", client=closed)


def test_workers_label(client, tmp_path, monkeypatch):
    monkeypatch.setattr(
        layouts, "chosen", lambda *given: layouts.layout(*given[:2], (16, 32), given[2])
    )
    net, image = net_of(), image_of((150, 130))
    path = SOURCES["tiff in tiles"](tmp_path, image)
    planned = plan(path, net, tmp_path / "labels.zarr", client=client, probabilities="float16")
    assert "2 workers of 1 to 1 threads" in str(planned)
    steps = []

    def kill_one(done, total):
        steps.append(done)
        if done == 3:
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    planned.execute(kill_one)
    assert steps == list(range(1, 51))
    label(path, net, tmp_path / "alone.npy")
    np.testing.assert_array_equal(read(tmp_path / "labels.zarr"), read(tmp_path / "alone.npy"))
    np.testing.assert_array_equal(read(tmp_path / "alone.npy"), labels_of(net, image, "reflect")[0])
    # What only the caller holds is sent, and a client that was opened for it is closed
    count = lambda dask_scheduler: len(dask_scheduler.clients)  # noqa: E731
    before = client.run_on_scheduler(count)
    label(image, net, tmp_path / "sent.tif", client=client.scheduler.address)
    assert client.run_on_scheduler(count) == before
    assert (tifffile.imread(tmp_path / "sent.tif") == read(tmp_path / "alone.npy")).all()
    # A file that a worker does not see
    planned = plan(path, net, tmp_path / "unseen.npy", client=client)
    path.rename(tmp_path / "moved.tif")
    with pytest.raises(OSError, match=r"worker tcp.*does not see .*tiled.tif; expected files that"):
        planned.execute()


def learned(data, net=small_net, **options):
    """The run of a net that learns from three images a step."""
    trainer = Trainer(net(), Adam(0.01), class_weights=[1, 2, 0.3], seed=3)
    fit(trainer, data, epochs=2, pixels=30, images_a_step=3, progress=False, **options)
    return trainer


def assert_same(one, other):
    assert one.history == other.history
    for name, array in one.net.state().items():
        assert array.tobytes() == other.net.state()[name].tobytes()


def test_workers_learn(client):
    """As one process learns, bit for bit; also where one of them is killed, or both at once."""
    data, options = examples(), {"augmentation": Augmentation(noise=0.1), "validation": examples(1)}
    alone = learned(data, **options)
    assert_same(alone, learned(data, client=client.scheduler.address, **options))
    update = Trainer.update
    for deaths in (1, 2):
        client.wait_for_workers(2)
        killed = []

        def kill(self, given, killed=killed, deaths=deaths):
            update(self, given)
            if not killed:
                killed.extend(list(client.run(os.getpid).values())[:deaths])
                for process in killed:
                    os.kill(process, signal.SIGKILL)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "update", kill)
            patch.setattr(learners, "PATIENCE", 1)
            assert_same(alone, learned(data, client=client, **options))
        assert len(killed) == deaths


def test_workers_learn_from_files(client, tmp_path):
    rng, paths = np.random.default_rng(0), [tmp_path / f"{i}.npy" for i in range(3)]
    labels = [ListedLabels(rng.integers(0, 60, (50, 2)), rng.integers(0, 3, 50)) for _ in paths]
    for seed, path in enumerate(paths):
        np.save(path, image_of(seed=seed))
    data = [View(path, net_of()) for path in paths], labels
    assert_same(learned(data, net_of), learned(data, net_of, client=client))
    with pytest.raises(TypeError, match="image 0 is a View; expected an array, or a View of a"):
        learned(([View(image_of(), net_of())], labels[:1]), net_of, client=client)
    paths[1].rename(tmp_path / "moved.npy")
    with pytest.raises(OSError, match=r"worker tcp.*does not see .*1.npy; expected files that"):
        learned(data, net_of, client=client)
