"""Tiles as measured: what is timed, what is stored, and who reads it. The timer is a stand-in."""

import json
from argparse import Namespace
from dataclasses import asdict, replace
from itertools import combinations

import numpy as np
import pytest

import kernels
from experiments import __main__ as command_line
from experiments import tune
from experiments.profiling.calls import product_of
from experiments.profiling.operators import OperatorCase
from experiments.profiling.timed import interleaved
from experiments.storing import cache
from kernels.convolution import cuda as convolution
from kernels.convolution import cuda_tiles
from kernels.convolution import cuda_tiles_measured as measured
from kernels.device import api, launching, multiprocessors
from kernels.memory import cuda as memory

DEVICE, SHIPPED = "Stand-in 9000 (TM)", measured.SHIPPED
MAP_TILES = list(cuda_tiles.MAP_TILES)


def options(**changed):
    return Namespace(**{"nets": ["lenet28"], "pixels": 3, "batch": 2, "backend": "cuda"} | changed)


def measurement(tile, seconds, rows=20, columns=1000, call="forward", table="map"):
    matrix = {"table": table, "rows": rows, "columns": columns}
    return {**matrix, "call": call, "tile": asdict(tile), "seconds": seconds}


def damaged_measurements():
    """A measurement with one thing wrong, for everything that can be."""
    good = measurement(MAP_TILES[0], 1)
    yield from (1, [], {"table": 1}, good | {"more": 1})
    changes = {
        "table": (1, "other", ["map"]),
        **dict.fromkeys(("rows", "columns"), (0, -1, 1.5, "1", True, None, 2**40)),
        "call": (1, None, []),
        "seconds": (0, -1, "1", None, float("nan"), float("inf"), 10**400),
        "tile": (1, {}, []),
    }
    for name, values in changes.items():
        yield from (good | {name: value} for value in values)
    for name in good["tile"]:
        for value in (0, -1, 1.5, "4", None, [4], [4, 0], [[4, 4]], 10**9):
            yield good | {"tile": good["tile"] | {name: value}}


@pytest.fixture(autouse=True)
def device(monkeypatch, tmp_path):
    """A device by name, and a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(measured, "device_name", lambda: DEVICE)
    monkeypatch.setattr(multiprocessors, "is_recording", lambda: True)
    monkeypatch.setattr(measured, "SHIPPED", tmp_path / "shipped")
    for cached in (measured._nearest, measured._read):
        cached.cache_clear()
    yield tmp_path
    for cached in (measured._nearest, measured._read):
        cached.cache_clear()


@pytest.fixture
def without_a_device(monkeypatch):
    """The backend ``cuda`` on host arrays, launching nothing."""
    monkeypatch.setattr(api, "why_unavailable", lambda: None)
    monkeypatch.setattr(api, "driver_version", lambda: "CUDA 13.0")
    monkeypatch.setattr(launching, "allocate", np.empty)
    monkeypatch.setattr(memory, "to_device", np.asarray)


def store(folder, *measurements):
    folder.mkdir(exist_ok=True)
    content = json.dumps({"measurements": measurements})
    (folder / measured.file_name(DEVICE)).write_text(content)


class TestLookingUp:
    def tile(self, rows=20, columns=1000, table="map", itemsize=4):
        return measured.measured_tile(table, rows, columns, itemsize)

    def test_the_fastest_is_found(self, device):
        store(measured.user_folder(), measurement(MAP_TILES[0], 2), measurement(MAP_TILES[1], 1))
        assert measured.user_folder() == device / "regularly-sparse"
        assert self.tile() == MAP_TILES[1]
        assert cuda_tiles.choose_tile("map", 20, 1000, 4) == MAP_TILES[1]

    def test_times_of_calls_with_one_matrix_add_up(self):
        store(
            measured.user_folder(),
            *(measurement(MAP_TILES[0], s, call=c) for s, c in ((1, "forward"), (9, "gradient"))),
            *(measurement(MAP_TILES[1], s, call=c) for s, c in ((4, "forward"), (4, "gradient"))),
            measurement(MAP_TILES[2], 0.1, call="forward"),
        )
        assert self.tile() == MAP_TILES[1]

    def test_the_nearest_number_of_columns_counts(self):
        one, other = (measurement(MAP_TILES[i], 1, columns=c) for i, c in ((0, 1000), (1, 4000)))
        store(measured.user_folder(), one, other)
        columns = 240, 250, 1900, 2100, 16000, 16100
        expected = None, MAP_TILES[0], MAP_TILES[0], MAP_TILES[1], MAP_TILES[1], None
        assert tuple(self.tile(columns=c) for c in columns) == expected

    def test_other_matrices_are_left_to_the_model(self):
        store(measured.user_folder(), measurement(MAP_TILES[0], 1))
        assert self.tile(rows=21) is None
        assert self.tile(table="weights") is None
        assert self.tile(itemsize=8) is None
        modelled = cuda_tiles.modelled_tile("map", 21, 1000, 4)
        assert cuda_tiles.choose_tile("map", 21, 1000, 4) == modelled

    def test_a_shipped_file_is_found_after_the_users(self, device):
        store(device / "shipped", measurement(MAP_TILES[0], 1))
        assert self.tile() == MAP_TILES[0]
        store(measured.user_folder(), measurement(MAP_TILES[1], 1))
        measured._nearest.cache_clear()
        measured._read.cache_clear()
        assert self.tile() == MAP_TILES[1]

    def test_another_devices_file_and_other_kernels_do_not_count(self, monkeypatch):
        store(measured.user_folder(), measurement(MAP_TILES[0], 1))
        monkeypatch.setattr(measured, "device_name", lambda: "another")
        assert self.tile() is None
        monkeypatch.setattr(measured, "device_name", lambda: DEVICE)
        monkeypatch.setattr(measured, "_sources", lambda: "changed")
        assert self.tile() is None

    @pytest.mark.parametrize(
        "content",
        [
            *("", "{}", "[1]", "[" * 10**6, " " * (2**23 + 1), '{"measurements": 1}'),
            *(json.dumps({"measurements": [m]}) for m in damaged_measurements()),
        ],
        ids=lambda content: content[-40:].strip() or "empty",
    )
    def test_a_damaged_file_is_named_and_passed_over(self, content):
        path = measured.user_folder() / measured.file_name(DEVICE)
        path.parent.mkdir()
        path.write_text(content)
        with pytest.warns(UserWarning, match=r"tiles-Stand-in-9000-TM-\w+\.json cannot be read"):
            assert self.tile() is None

    def test_a_tile_that_no_kernel_has_is_not_chosen(self):
        other = replace(MAP_TILES[0], rows=7)
        assert other not in MAP_TILES
        store(measured.user_folder(), measurement(other, 1))
        modelled = cuda_tiles.modelled_tile("map", 20, 1000, 4)
        assert cuda_tiles.choose_tile("map", 20, 1000, 4) == modelled

    def test_nothing_is_looked_up_while_launches_are_recorded(self):
        store(measured.user_folder(), measurement(MAP_TILES[0], 1))
        with launching.recorded():
            assert self.tile() is None


@pytest.mark.usefixtures("without_a_device")
class TestMeasuring:
    def test_the_calls_of_a_net(self):
        """lenet28 has two convolutions and two 1 x 1 ones, in the patch net matrix products."""
        cases = tune.cases_of("lenet28", 3, 2)
        assert len(cases) == 2 * (4 + 3 + 4)
        assert str(cases[0]) == "convolution.forward 1 x 1 x 30 x 30 to 20 kernel 5 x 5"
        assert product_of(cases[0]) == ("map", 20, 26 * 26)
        patch = [case for case in cases if case.shape[0] == 2]
        assert len(patch) == len(cases) // 2
        assert {product_of(case)[0] for case in cases} == {"map", "weights", "matrix"}

    def test_the_product_of_arrays_that_no_memory_holds(self):
        shape = 2**20, 64, 512, 512
        case = OperatorCase("convolution.forward", shape, 48, kernel=(3, 3))
        assert product_of(case) == ("map", 48, 2**20 * 510 * 510)

    def test_the_product_is_the_one_that_the_convolutions_ask_a_tile_for(self, monkeypatch):
        asked = []

        def choose(*product):
            asked.append(product)
            return cuda_tiles.modelled_tile(*product)

        monkeypatch.setattr(convolution, "choose_tile", choose)
        cases = tune.cases_of("strided67", 3, 2)
        assert asked == [(*product_of(case), 4) for case in cases]

    def test_every_tile_of_the_table_is_measured(self):
        case = tune.cases_of("lenet28", 3, 2)[0]
        with launching.recorded() as launches:

            def interleaved(runs, warm_ups, repeats):
                for run in runs:
                    run()
                return [[float(number), 1e6, number / 2] for number in range(1, len(runs) + 1)]

            measurements = tune.measure(case, interleaved)
        assert [m["tile"] for m in measurements] == [asdict(tile) for tile in MAP_TILES]
        # A tile's weights are packed, then multiplied
        assert len(launches) == 2 * len(MAP_TILES)
        assert [m["seconds"] for m in measurements] == list(range(1, len(MAP_TILES) + 1))
        assert measured.fastest_tiles(measurements) == {("map", 20, 676): MAP_TILES[0]}

    def test_a_run_stores_what_the_convolutions_read(self, monkeypatch, capsys):
        """The model's choice is the slowest here, by decree."""
        products = [(*product_of(case), 4) for case in tune.cases_of("lenet28", 3, 2)]

        def measure(case, interleaved):
            table, rows, columns = product_of(case)
            modelled = cuda_tiles.modelled_tile(table, rows, columns, 4)
            return [
                measurement(t, 2 if t == modelled else 1, rows, columns, str(case), table)
                for t in cuda_tiles.TILES[table]
            ]

        monkeypatch.setattr(tune, "measure", measure)
        monkeypatch.setattr(api, "device_name", lambda: DEVICE)
        assert tune.main(options()) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 22 + 1
        assert all("fastest" in line and "model" in line for line in lines[:-1])
        record = json.loads((measured.user_folder() / measured.file_name(DEVICE)).read_text())
        assert record["gpu"] == DEVICE
        assert {"commit", "command", "utc", "versions"} < record.keys()
        for product in products:
            assert cuda_tiles.choose_tile(*product) != cuda_tiles.modelled_tile(*product)
        assert [path.name for path in measured.user_folder().iterdir()] == [
            measured.file_name(DEVICE)
        ]


class TestKeptMeasurements:
    """Of other experiments: what a GPU's times depend on is part of their key."""

    @pytest.fixture
    def key(self, monkeypatch, tmp_path):
        """A function that gives the key that all measurements of a run share."""
        monkeypatch.setattr(api, "device_name", lambda: DEVICE)
        monkeypatch.setattr(api, "driver_version", lambda: "580.1, CUDA 13.0")
        monkeypatch.setattr(kernels, "get_backend", lambda name: Namespace(name=name))

        class Found(Exception):
            """The key, before anything is measured."""

        def found(folder, common, provenance, **options):
            raise Found(common)

        monkeypatch.setattr(cache, "MeasurementCache", found)
        given = {"backend": "cuda", "out": tmp_path, "code": {"growth": "1"}, "fresh": False}
        given |= {"bar": None, "gflops": None, "state": "1"}

        def of_a_run():
            with pytest.raises(Found) as raised:
                command_line._run("growth", Namespace(**given, seed=0, quick=False))
            return raised.value.args[0]

        return of_a_run

    def test_tiles_that_were_measured_anew(self, key, device):
        keys = [key()]
        assert key() == keys[0]
        store(device / "shipped", measurement(MAP_TILES[0], 1))
        keys.append(key())
        for seconds in (1, 2):
            store(measured.user_folder(), measurement(MAP_TILES[0], seconds))
            keys.append(key())
        assert all(one != other for one, other in combinations(keys, 2))

    def test_a_new_driver(self, key, monkeypatch):
        before = key()
        monkeypatch.setattr(api, "driver_version", lambda: "580.2, CUDA 13.0")
        assert key() != before

    def test_the_drivers_own_version_counts(self, monkeypatch, tmp_path):
        """It changes more often than that of CUDA."""
        driver = pytest.importorskip("numba.cuda.cudadrv.driver")
        monkeypatch.setattr(driver, "get_version", lambda: (13, 0))
        path = tmp_path / "version"
        monkeypatch.setattr(api, "LOADED_DRIVER", path)
        assert api.driver_version() == "CUDA 13.0"
        path.write_text(
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n"
            "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
        )
        assert api.driver_version() == "580.65.06, CUDA 13.0"
        path.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\n")
        assert api.driver_version() == "535.104.05, CUDA 13.0"


class TestRefusals:
    def test_without_a_gpu(self, monkeypatch, capsys):
        monkeypatch.setattr(api, "why_unavailable", lambda: "no CUDA device was found")
        assert command_line.main(["tune"]) == 2
        message = "experiments: error: backend 'cuda' cannot run here: no CUDA device was found\n"
        assert capsys.readouterr().err == message
        assert not measured.user_folder().exists()

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"backend": "simulator"}, "the simulator's times say nothing of speed"),
            ({"nets": ["resnet"]}, "--nets names resnet; expected some of lenet28"),
        ],
    )
    def test_bad_options(self, capsys, changed, message):
        assert tune.main(options(**changed)) == 2
        assert message in capsys.readouterr().err


@pytest.mark.gpu
def test_a_layer_on_a_device(monkeypatch):
    tiles = dict.fromkeys(MAP_TILES[:2], 0.5)
    monkeypatch.setitem(cuda_tiles.TILES, "map", tiles)
    monkeypatch.setattr(tune, "REPEATS", 2)
    case = OperatorCase("convolution.forward", (1, 2, 6, 40), 3, (2, 2), dilation=(2, 2))
    measurements = tune.measure(case, interleaved)
    if not measurements:
        pytest.skip("the device's queue ran dry")
    assert [m["tile"] for m in measurements] == [asdict(tile) for tile in tiles]
    assert all(m["seconds"] > 0 for m in measurements)


def test_what_is_shipped_was_measured_with_these_kernels():
    """A file for other kernels would never be read: measure anew, or remove it."""
    shipped = list(SHIPPED.glob("*.json"))
    assert shipped
    for path in shipped:
        record = json.loads(path.read_text())
        assert path.name == measured.file_name(record["gpu"])
        fastest = measured.fastest_tiles(measured._measurements(path))
        assert all(tile in cuda_tiles.TILES[table] for (table, _, _), tile in fastest.items())
