"""Two worker processes that label one image; one of them is killed."""

import os
import signal

import numpy as np
import pytest
import tifffile

from net.large import label, plan, planning
from tests.large.images import SOURCES, image_of, labels_of, net_of, read

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


def test_workers_label(client, tmp_path, monkeypatch):
    monkeypatch.setattr(
        planning, "chosen", lambda *given: planning.layout(*given[:2], (16, 32), given[2])
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
    # What only the caller holds is sent
    label(image, net, tmp_path / "sent.tif", client=client.scheduler.address)
    assert (tifffile.imread(tmp_path / "sent.tif") == read(tmp_path / "alone.npy")).all()
    # A file that a worker does not see
    planned = plan(path, net, tmp_path / "unseen.npy", client=client)
    path.rename(tmp_path / "moved.tif")
    with pytest.raises(OSError, match=r"worker tcp.*does not see .*tiled.tif; expected files that"):
        planned.execute()
