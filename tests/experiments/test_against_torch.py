"""The benchmark against PyTorch: verdicts from rows, and what happens without PyTorch."""

import importlib.util
import types

import numpy as np
import pytest

from experiments import __main__, against_torch
from experiments.against_torch import BUSY, FORMS, OURS, PASSES, THREADS
from experiments.measuring import torch_layers


def row(form, passed, way, seconds, peak=None, net="a", labelled=256):
    spread = {"seconds": seconds, "seconds_p20": seconds, "seconds_p80": seconds, "repeats": 5}
    ratio = {"ratio": seconds, "ratio_p20": seconds, "ratio_p80": seconds}
    place = {"net": net, "form": form, "labelled": labelled if form == "dense" else None}
    return place | {"pass": passed, "way": way, "batch": 16, "peak_bytes": peak} | spread | ratio


def rows(contiguous, channels_last, peak=70):
    """Ours takes one second and ``peak`` bytes; PyTorch so many seconds and 100 bytes."""
    measured = []
    for form in FORMS:
        for passed in PASSES:
            ways = {OURS: (1.0, peak), "PyTorch contiguous": (contiguous, 100)}
            ways["PyTorch channels_last"] = channels_last, 120
            for way, (seconds, most) in ways.items():
                measured.append(row(form, passed, way, seconds, most if form == "dense" else None))
    return measured


def test_targets_that_are_met():
    said = against_torch.verdicts(rows(3.0, 1.5))
    first = "dense, forward, against contiguous: geometric mean 3.00; at least 2.0 on every net"
    assert said[0] == first
    assert all("below" not in sentence and "above" not in sentence for sentence in said)
    assert said[-1] == "peak memory, forward + backward: at most 0.70 of PyTorch's"


def test_targets_that_are_missed_name_the_net():
    said = against_torch.verdicts(rows(3.0, 0.9, peak=80))
    missed = "dense, forward, against best: geometric mean 0.90 (aim 1.25); below 1.0 on a 256 0.90"
    assert missed in said
    assert said[-1].endswith("at most 0.80 of PyTorch's; above 0.75 on a 256 0.80")


def test_scaling_is_told_from_the_rows_by_threads():
    measured = [
        row(THREADS, PASSES[1], way, ratio, net=net)
        for net, single in (("a", 1.9), ("b", 1.7))
        for way, ratio in (("1 thread", single), ("2 threads", 1.0), (BUSY, 1.4))
    ]
    assert against_torch.verdicts(rows(3.0, 1.5) + measured)[-2:] == [
        "all threads against one: 1.70 to 1.90 times as fast (aim 1.8); below on b 1.70",
        "beside a busy process on one core: at most 1.40 times as long",
    ]


def test_table_and_figure_hold_every_row():
    measured = rows(3.0, 1.5)
    lines = against_torch.table(measured).splitlines()
    assert sum(line.startswith("| a |") for line in lines) == len(measured) + len(FORMS)
    compiled = [row("dense", p, "PyTorch channels_last, compiled", 0.5) for p in PASSES]
    drawing = against_torch.figure(measured + compiled, {"gpu": None, "cpu": "a CPU"}, {})
    bars = [patch for axes in drawing.get_axes() for patch in axes.patches]
    assert {bar.get_y() for bar in bars} == {1}
    ends = [bar.get_y() + bar.get_height() for bar in bars]
    np.testing.assert_array_equal(sorted(ends), [0.5] * 2 + [1.5] * 4 + [3.0] * 4)
    assert {axes.get_yscale() for axes in drawing.get_axes()} == {"log"}
    (legend,) = drawing.legends
    assert [text.get_text() for text in legend.get_texts()][-1].endswith("compiled")


def test_the_summary_is_three_sentences():
    assert against_torch.summary(rows(3.0, 1.5)) == (
        "Dense, PyTorch's best method takes 1.50 times as long forward (1.50 to 1.50) and 1.50 "
        "times as long forward + backward (1.50 to 1.50). Patch by patch, PyTorch's best method "
        "takes 1.50 times as long forward (1.50 to 1.50) and 1.50 times as long forward + "
        "backward (1.50 to 1.50). Our peak memory, forward + backward, is 70% to 70% of PyTorch's."
    )


def test_the_table_has_a_line_for_each_net_and_size():
    lines = against_torch.table(rows(3.0, 1.5)).splitlines()
    first = lines.index("PyTorch's time over ours:") + 2
    assert lines[first].count("|") == lines[first + 1].count("|") == 8
    assert lines[first + 2 : first + 4] == [
        "| a | 256 x 256 | 3.00 | 1.50 | 3.00 | 1.50 | 70% |",
        "| a | one by one, as patches | 3.00 | 1.50 | 3.00 | 1.50 |  |",
    ]


def test_a_size_may_run_forward_alone():
    """As larger sizes do with AVX2."""
    ways = {OURS: 1.0, "PyTorch contiguous": 3.0, "PyTorch channels_last": 2.0}
    larger = [row("dense", "forward", way, s, labelled=512) for way, s in ways.items()]
    measured = rows(4.5, 0.5) + larger
    said = against_torch.verdicts(measured)
    forward = (
        "dense, forward, against best: geometric mean 1.00 (aim 1.25); below 1.0 on a 256 0.50"
    )
    assert forward in said
    assert any(s.startswith("dense, forward + backward, against best: geo") for s in said)
    assert "| a | 512 x 512 | 3.00 | 2.00 |  |  |  |" in against_torch.table(measured).splitlines()
    assert "(0.50 to 2.00)" in against_torch.summary(measured)
    against_torch.figure(measured, {"gpu": None, "cpu": "a CPU"}, {})


def test_without_pytorch(monkeypatch, tmp_path, capsys):
    missing = types.SimpleNamespace(util=types.SimpleNamespace(find_spec=lambda name: None))
    monkeypatch.setattr(torch_layers, "importlib", missing)
    arguments = ["against_torch", "--quick", "--backend", "cpu", "--out", str(tmp_path)]
    assert __main__.main(arguments) == 2
    assert "against_torch cannot run: PyTorch is not installed" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.cpu
@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="the extra bench is missing")
def test_runs(tmp_path):
    arguments = ["against_torch", "--quick", "--backend", "cpu", "--nets", "lenet28"]
    assert __main__.main([*arguments, "--out", str(tmp_path)]) == 0
    (table,) = tmp_path.glob("*/against_torch/table.md")
    assert table.read_text().count("PyTorch channels_last") == 4
