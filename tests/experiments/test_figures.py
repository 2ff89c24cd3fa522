"""What figures say without a caption: the best, what is extrapolated, a row for each kernel."""

from itertools import combinations
from math import nextafter
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from experiments import __main__, against_torch, growth, memory, networks
from experiments.profiling import counter
from experiments.reporting import report, stored
from tests.experiments import stored_results
from tests.experiments.test_claims import compared, full

RECORD = {"gpu": None, "cpu": "a CPU"}
RESULTS = Path(__file__).parents[2] / "results"


def bars(axes):
    return [patch for patch in axes.patches if patch.get_height()]


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("guessed", [True, False])
def test_networks_marks_what_is_extrapolated_and_shows_the_best_of_the_family(guessed):
    cases = [("n4", 95, 128, 400), ("n4", 95, 256, 600), ("authors133", 133, 1024, 1234)]
    family = [("family-32", 32, 128, 50), ("family-160", 160, 1024, 1700)]
    family += [("family-160", 160, 64, 300), ("family-32", 32, 1024, 90)]
    rows = [full(row) for case in cases + family for row in compared(*case)]
    rows = [row | {"speedup_p20": row["speedup"], "speedup_p80": row["speedup"]} for row in rows]
    rows = [row | {"extrapolated": guessed and row["form"] == "scanning"} for row in rows]
    drawing = networks.figure(rows, RECORD, {})
    (axes,) = drawing.axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["n4", "authors133", "family-160\n(growth)"]
    assert sorted(bar.get_height() for bar in bars(axes)) == sorted(2 * [400, 600, 1234, 1700])
    assert {bool(bar.get_hatch()) for bar in bars(axes)} == {guessed}
    assert texts(axes) == ["600", "600", "1234", "1234", "1700", "1700"]
    (legend,) = drawing.legends
    said = [text.get_text() for text in legend.get_texts()]
    assert ("scanning extrapolated from timed pixels" in said) == guessed


def test_growth_states_its_best_figure():
    rows = stored_results.growth()
    best = [row for row in rows if (row["patch"], row["labelled"]) == (16, 24)]
    for row in best:
        row["speedup"] = 77.0 if row["direction"] == "backward" else 66.0
        row["extrapolated"] = row["form"] == "scanning"
    (said,) = texts(growth.figure(rows, RECORD, {}).axes[0])
    assert said.startswith("best: 77 times backward, patch 16,\n24 x 24 pixels, scanning extrapol")
    assert said.endswith("arithmetic alone: 1 times")


def test_memory_has_a_row_for_each_kernel_under_its_operator():
    def row(operator, kernel, form, layer, asked):
        empty = dict.fromkeys(counter.COLUMNS) | {"array": "x", "access": "load", "share": 0.5}
        counts = {"is_map": True, "requests": 1, "sectors": 4, "asked": asked, "moved": 100}
        place = {"net": "n4", "form": form, "layer": layer, "kernel": kernel}
        return empty | counts | place | {"operator": operator}

    rows = [
        row("convolution.forward", "forward", "dense", "conv1", 90),
        row("convolution.forward", "forward", "dense", "conv2", 70),
        row("convolution.forward", "forward", "patch", "conv1", 20),
        row("max_pooling.forward", "maxima", "patch", "max1", 30),
        row("convolution.gradient_weights", "gradient", "dense", "conv1", 100),
    ]
    (axes,) = memory.figure(rows, RECORD, {}).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["convolution", "forward", "gradient", "max pooling", "maxima"]
    assert [bar.get_width() for bar in axes.patches] == [80, 100, 20, 30]


@pytest.fixture(scope="module")
def drawings():
    """The figures of all stored results, laid out, by their folders."""
    drawn = {}
    modules, views = __main__.modules(), __main__.profile.views()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "_drawn", lambda figure, folder: drawn.update({folder: figure}) or {})
        report.everything(stored.read(RESULTS, modules, views), modules, views)
    assert len(drawn) > len(modules)
    for drawing in drawn.values():
        drawing.draw_without_rendering()
    return drawn


def check_figures_of_bars(drawing):
    """They overlap no other, and lie on white before the line of the claim.

    Returns:
        The number of those that the line would strike through.
    """
    (axes,) = drawing.axes
    (claim,) = (line for line in axes.get_lines() if line.get_linestyle() == "--")
    ((_, height),) = axes.transData.transform([(0, networks.CLAIMED_SPEEDUP)])
    boxes = [text.get_window_extent() for text in axes.texts]
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    struck = [text for text, box in zip(axes.texts, boxes) if box.y0 <= height <= box.y1]
    for text in struck:
        assert text.get_zorder() > claim.get_zorder()
        assert text.get_bbox_patch().get_facecolor() == (1, 1, 1, 1)
    return len(struck)


def test_figures_of_bars_are_legible_in_the_stored_figures(drawings):
    of_networks = [drawing for folder, drawing in drawings.items() if folder.name == "networks"]
    assert len(of_networks) >= 2
    for drawing in of_networks:
        check_figures_of_bars(drawing)


def test_figures_of_bars_are_legible_beside_each_other_and_on_the_line_of_the_claim():
    """Nets of one size, whose bars forward and backward are neighbours, beside one of four."""
    cases = [(f"net-{i}", 95, 128, speedup) for i, speedup in enumerate((26.4, 1390, 1100, 50.8))]
    cases += [("largest", 133, size, 1239) for size in (128, 256, 512, 1024)]
    cases += [(f"net-{i}", 95, 256, 300) for i in range(4, 9)]
    rows = [full(row) for case in cases for row in compared(*case)]
    rows = [row | {"speedup_p20": row["speedup"], "speedup_p80": row["speedup"]} for row in rows]
    drawing = networks.figure(rows, RECORD, {})
    drawing.draw_without_rendering()
    assert check_figures_of_bars(drawing) == 4


def test_the_stored_comparison_with_pytorch_shows_compiled_code_on_a_logarithmic_axis(drawings):
    """In the panels of the dense form, for every net."""
    of_torch = [drawing for folder, drawing in drawings.items() if folder.name == "against_torch"]
    assert len(of_torch) >= 2
    for drawing in of_torch:
        assert {axes.get_yscale() for axes in drawing.axes} == {"log"}
        for axes in drawing.axes[: len(against_torch.PASSES)]:
            named = {bars.get_label(): len(bars) for bars in axes.containers}
            (compiled,) = (name for name in named if name.endswith("compiled"))
            assert named[compiled] == len(axes.get_xticklabels()) > 0


def test_titles_fit_into_the_stored_figures(drawings):
    for folder, drawing in drawings.items():
        for axes in drawing.axes:
            title = axes.title.get_window_extent()
            assert 0 <= title.x0 <= title.x1 <= drawing.bbox.width, (folder, axes.get_title())


def test_what_differs_in_last_bits_alone_is_the_same_file():
    """As the layout of a figure does, from process to process."""
    made = []
    for left in (0.1, nextafter(0.1, 1)):
        drawing = Figure()
        drawing.add_axes((left, 0.1, 0.7, 0.8)).plot([1, 2], [3, 4])
        drawing.add_axes((0.85, 0.1, 0.1, 0.8)).plot([1, 2], [4, 3])
        made.append(report._drawn(drawing, Path()))
    assert made[0] == made[1]
    assert made[0][Path("figure.svg")].count(b"url(#clip") == 2
