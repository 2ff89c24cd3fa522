"""Layers beside a matrix product: what is counted, where it is measured, what pages say of it."""

import json
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import llvmlite.binding
import pytest

from experiments import against_torch, layers
from experiments.measuring.peak import PASSES
from experiments.reporting import stored
from experiments.storing import instructions
from tests.experiments.test_pages_agree import HOSTS, quoted, rows_of

ROOT = Path(__file__).parents[2]
MACHINES = {name: HOSTS[name] for name in ("AVX-512", "AVX2")}
"""Those that the tables of ``docs/host.md`` show."""
JOB = {"net": "lenet28", "labelled": 16, "side": 8, "seed": 0, "longest": 1.0}
WORK = {
    "conv1": 20 * 1 * 5 * 5 * 39**2,
    "conv2": 50 * 20 * 5 * 5 * 30**2,
    "fc1": 500 * 50 * 4 * 4 * 16**2,
    "fc2": 10 * 500 * 16**2,
}
"""Multiply-adds of ``lenet28`` for 16 x 16 labelled pixels: an image of 43 x 43."""
SECONDS = {"forward": [1, 2, 4], "input gradient": [2, 2, 2], "weight gradient": [4, 4, 4]}


def row(direction, share, layer="conv2", of_work=0.4):
    """A row as it is stored, of a product that takes two seconds."""
    place = {"net": "a", "layer": layer, "window": "5 x 5", "d": 2, "channels": 3, "filters": 4}
    place |= {"labelled": 256, "direction": direction, "of_work": of_work, "bytes": 3 * 10**9}
    times = {"seconds": 2.0, "seconds_p20": 1.0, "seconds_p80": 3.0, "repeats": 5}
    shares = {"share": share, "share_p20": share - 0.01, "share_p80": share + 0.01}
    product = {"product_seconds": 2.0, "side": 1000, "blas": "Haswell"}
    return place | {"multiply_adds": 10**9} | times | shares | product


@pytest.mark.cpu
def test_work_and_shares_are_those_of_each_layer(monkeypatch):
    """The share is the median over rounds, in each of which product and layer are compared."""
    monkeypatch.setattr(layers, "interleaved", lambda *_: SECONDS | {"product": [1, 1, 8]})
    rows = layers._measured(JOB)
    assert [(r["layer"], r["direction"]) for r in rows] == [
        (layer, direction) for layer in WORK for direction in layers.DIRECTIONS
    ]
    for r in rows:
        work, rounds = WORK[r["layer"]], zip([1, 1, 8], SECONDS[r["direction"]])
        assert r.keys() == layers.COLUMNS.keys()
        assert r["multiply_adds"] == work
        assert r["of_work"] == pytest.approx(work / sum(WORK.values()))
        _, median, _ = sorted(product / seconds for product, seconds in rounds)
        assert r["share"] == pytest.approx(work / 8**3 * median)
        assert r["product_seconds"] == 1
    by_layer = {r["layer"]: r for r in rows}
    assert by_layer["conv1"]["bytes"] == 4 * (43**2 + 20 * 39**2)
    assert by_layer["fc1"]["bytes"] == 4 * (50 * 28**2 + 500 * 16**2)
    assert (by_layer["fc1"]["window"], by_layer["fc1"]["d"]) == ("4 x 4", 4)
    assert (by_layer["fc1"]["channels"], by_layer["fc1"]["filters"]) == (50, 500)


@pytest.mark.cpu
def test_a_wrong_gradient_is_not_timed(monkeypatch):
    convolution = layers.get_backend("cpu").convolution
    wrong = SimpleNamespace(
        forward=convolution.forward,
        gradient_input=lambda *given, **moves: 1.01 * convolution.gradient_input(*given, **moves),
        gradient_weights=convolution.gradient_weights,
    )
    monkeypatch.setattr(layers, "get_backend", lambda name: SimpleNamespace(convolution=wrong))
    with pytest.raises(layers.NotEqual, match="conv1 of"):
        layers._measured(JOB)


@pytest.mark.parametrize("held", [True, False])
def test_the_process_has_one_thread_and_one_instruction_set(held, monkeypatch):
    seen = {}
    done = SimpleNamespace(returncode=0, stdout="loading\n[1]\n")
    monkeypatch.setattr(layers.subprocess, "run", lambda _, **given: seen.update(given) or done)
    monkeypatch.setattr(layers, "held_to_avx2", lambda: held)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "512")
    assert layers._in_a_process(JOB) == [1]
    variables = {name for name in seen["env"] if seen["env"][name] == "1"}
    assert variables >= {"NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}
    assert "OPENBLAS_L2_SIZE" not in seen["env"]
    assert seen["env"].get("OPENBLAS_CORETYPE") == ("Haswell" if held else None)


def test_a_process_that_fails_says_why(monkeypatch):
    done = SimpleNamespace(returncode=1, stderr="NotEqual: fc1")
    monkeypatch.setattr(layers.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(RuntimeError, match=r"lenet28.* failed:\nNotEqual: fc1"):
        layers._in_a_process(JOB)


@pytest.mark.skipif(
    not llvmlite.binding.get_host_cpu_features().get("avx2"), reason="no AVX2 to force"
)
def test_the_kernels_of_the_product_are_told():
    environment = os.environ | {"OPENBLAS_CORETYPE": "Haswell", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "from experiments import layers; print(layers._blas())"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("Haswell", "None")


@pytest.mark.cpu
@pytest.mark.parametrize("avx2", [True, False])
def test_runs(avx2, tmp_path):
    """A product on AVX2 is beside layers on AVX2."""
    variables = instructions.AVX2 if avx2 else {}
    command = [sys.executable, "-m", "experiments", "layers", "--quick", "--backend", "cpu"]
    command += ["--nets", "lenet28", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=os.environ | variables, check=True, capture_output=True)
    (folder,) = tmp_path.glob("*/layers")
    rows = stored.load(folder, layers).rows
    assert [r["layer"] for r in rows] == [layer for layer in WORK for _ in layers.DIRECTIONS]
    assert json.loads((folder / "record.json").read_text())["experiment"] == "layers"
    if instructions.narrower() is not None and rows[0]["blas"]:
        assert (rows[0]["blas"] == "Haswell") == avx2


def test_it_measures_the_host_alone():
    assert layers.unavailable("cpu") is None
    assert "--backend cpu" in layers.unavailable("cuda")


def test_the_table_names_what_misses_the_aim_and_gives_rates_of_the_rest():
    rows = [row("forward", 0.91), row("input gradient", 0.8412), row("weight gradient", 0.85)]
    rows += [row(direction, 0.5, "conv1", 0.01) for direction in layers.DIRECTIONS]
    lines = layers.table(rows).splitlines()
    assert lines[:5] == [
        "* Forward of layers with at least 10% of the work: nowhere below 0.85.",
        "* Input gradient of layers with at least 10% of the work: below 0.85 on a conv2 0.841.",
        "* Weight gradient of layers with at least 10% of the work: nowhere below 0.85.",
        "* The product, 1000 x 1000 by OpenBLAS's kernels Haswell: 1 to 1 GFLOP/s.",
        "* Labelled pixels: 256 x 256 of a.",
    ]
    shares = "0.910 (0.900 to 0.920) | **0.841** (0.831 to 0.851) | 0.850 (0.840 to 0.860)"
    assert f"| a | conv2 | 40.0% | 5 x 5, 2 | 3 -> 4 | {shares} |" in lines
    shares = " | ".join(3 * ["0.500 (0.490 to 0.510); 1.5 GB/s"])
    assert f"| a | conv1 | 1.0% | 5 x 5, 2 | 3 -> 4 | {shares} |" in lines
    assert layers.table([r | {"blas": None} for r in rows]).count("another BLAS than OpenBLAS") == 1


def stored_rows():
    """The stored rows, by instruction set."""
    folders = {name: ROOT / "results" / machine / "layers" for name, machine in MACHINES.items()}
    return {name: stored.load(folder, layers).rows for name, folder in folders.items()}


def lines_of_misses(rows):
    """The lines of the page's table of what misses the aim."""
    for direction in layers.DIRECTIONS:
        cells = [
            ", ".join(f"`{r['net']}` {r['layer']} {r['share']:.3f}" for r in missed) or "none"
            for missed in (layers.missed(of_one, direction) for of_one in rows.values())
        ]
        yield f"| {direction} | {' | '.join(cells)} |"


GROUPS = {
    "first layers, 1 channel": lambda r: r["channels"] == 1,
    "first layers, 3 channels": lambda r: r["channels"] == 3,
    "1 x 1, from 200 filters on": lambda r: r["window"] == "1 x 1" and r["filters"] >= 200,
    "1 x 1, up to 10 filters": lambda r: r["window"] == "1 x 1" and r["filters"] <= 10,
}


def lines_of_groups(rows):
    """The lines of the page's table of layers with other limits."""
    for (group, belongs), (name, of_one) in product(GROUPS.items(), rows.items()):
        cells = []
        for direction in layers.DIRECTIONS:
            chosen = [r for r in of_one if r["direction"] == direction and belongs(r)]
            if group.endswith("up to 10 filters"):
                rates = [1e-9 * r["bytes"] / r["seconds"] for r in chosen]
                cells.append(f"{min(rates):.0f} to {max(rates):.0f} GB/s")
            else:
                shares = [r["share"] for r in chosen]
                cells.append(f"{min(shares):.2f} to {max(shares):.2f}")
        yield f"| {group} | {name} | {' | '.join(cells)} |"


def test_the_page_on_the_host_quotes_the_stored_rows():
    lines = (ROOT / "docs" / "host.md").read_text().splitlines()
    for line in (*lines_of_misses(stored_rows()), *lines_of_groups(stored_rows())):
        assert line in lines


def test_the_page_on_the_host_names_the_layers_of_another_host_that_miss_the_aim():
    rows, text = rows_of("layers", HOSTS["Zen 4"]), (ROOT / "docs" / "host.md").read_text()
    told = "; ".join(
        f"{direction} "
        + ", ".join(
            f"`{r['net']}` {r['layer']} {r['share']:.3f}" for r in layers.missed(rows, direction)
        )
        for direction in layers.DIRECTIONS
    )
    assert told in " ".join(text.split())


def test_the_page_on_the_host_explains_pytorchs_lead_by_the_stored_rows():
    rows = stored_rows()
    taken, needed, beyond = [], [], []
    for name, machine in MACHINES.items():
        fc1 = [r for r in rows[name] if (r["net"], r["layer"]) == ("greentea102", "fc1")]
        taken.append(sum(1 / r["share"] for r in fc1))
        torch = against_torch._ratios(rows_of("against_torch", machine), "dense", PASSES[1], "best")
        needed.append(len(fc1) / taken[-1] * 1.15 / torch["greentea102 64"])
        products = (r["multiply_adds"] / r["side"] ** 3 * r["product_seconds"] for r in fc1)
        beyond += [r["seconds"] - product for r, product in zip(fc1, products)]
    told = quoted(
        "host.md",
        r"fc1\*\* takes ([\d.]+), ([\d.]+) and ([\d.]+) seconds more .*?, and ([\d.]+), ([\d.]+) "
        r"and ([\d.]+) seconds on AVX2",
    )
    assert told == tuple(f"{one:.2f}" for one in beyond)
    told = quoted(
        "host.md",
        r"together take ([\d.]+) times as long as a product with the multiply-adds of one of them "
        r"on AVX-512, and ([\d.]+) times on AVX2",
    )
    assert told == tuple(f"{one:.1f}" for one in taken)
    told = quoted("host.md", r"have to reach ([\d.]+) of a product there, and ([\d.]+) on AVX2")
    assert told == tuple(f"{one:.2f}" for one in needed)
    shares = {
        (r["net"], r["layer"]): r["share"]
        for r in rows["AVX2"]
        if r["direction"] == "forward" and r["of_work"] >= layers.LARGE
    }
    least = [shares.pop(layer) for layer in (("authors133", "conv2"), ("greentea102", "fc1"))]
    told = quoted(
        "host.md",
        r"reach ([\d.]+) to ([\d.]+) of a product there, but for `authors133` conv2 \(([\d.]+)\) "
        r"and `greentea102` fc1 \(([\d.]+)\)",
    )
    ends = min(shares.values()), max(shares.values())
    assert max(least) < ends[0]
    assert told == tuple(f"{one:.2f}" for one in (*ends, *least))


def test_the_page_on_the_host_quotes_input_gradients_over_rows_of_errors():
    """Of the layers that it names; before them they ran over rows of inputs."""
    shares = {
        (name, r["net"], r["layer"]): r["share"]
        for name, of_one in stored_rows().items()
        for r in of_one
        if r["direction"] == "input gradient"
    }
    _, _, text = (
        (ROOT / "docs" / "host.md")
        .read_text()
        .partition("\n## Input gradients over rows of errors\n")
    )
    pattern = r"^\| `(\w+)` (\w+), .*\| [\d.]+, ([\d.]+) \| [\d.]+, ([\d.]+) \|$"
    told = re.findall(pattern, text.partition("\n## ")[0], re.MULTILINE)
    assert len(told) == 11
    for net, layer, *quoted_shares in told:
        assert quoted_shares == [f"{shares[name, net, layer]:.2f}" for name in MACHINES]
