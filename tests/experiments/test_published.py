"""What others published: every figure has its source, and the arithmetic is counted from layers."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import __main__
from experiments.inputs import published
from experiments.inputs.arithmetic import DIRECTIONS, saved
from experiments.inputs.nets import built
from experiments.measuring.compare import CUTTING, TOTAL
from experiments.reporting import printed, stored
from experiments.reporting import published as page
from net import zoo
from tests.experiments.stored_results import store
from tests.experiments.test_command_line import experiments

ROOT = Path(__file__).parents[2]
TOLD = published.read()


def test_every_figure_has_a_source_and_says_where_it_was_read():
    for figure in (*TOLD.figures, TOLD.benchmark):
        assert TOLD.sources[figure.source].text
        assert figure.read in published.READ
    for figure in TOLD.figures:
        assert re.search(r"\d|hundred", figure.published)
        assert figure.hardware
        assert figure.opponent
        if figure.speedup:
            assert re.search(rf"\b{figure.speedup:g}\b", figure.published.replace(",", ""))
    cited = {figure.source for figure in (*TOLD.figures, TOLD.benchmark)}
    works = {"fastfpbp", "giusti2013", "vanvalen2016", "thom2017"}
    assert TOLD.sources.keys() == cited | works
    assert not any(one.counted and one.counted_once for one in TOLD.figures)
    assert len({figure.who for figure in TOLD.figures}) == len(TOLD.figures)
    assert TOLD.benchmark.peak_hardware in {one.hardware for one in TOLD.benchmark.times}


def test_each_direction_that_a_figure_names_is_counted(tmp_path):
    """Also the limit on the net that stands for the paper's."""
    store(tmp_path, measured(), "networks")
    text = page.page(stored.read(tmp_path, __main__.modules(), {}).machines)
    rows = {row.split(" | ")[0]: row.split(" | ") for row in text.splitlines() if row[:2] == "| "}
    net = zoo.build("authors133", backend="reference")
    forward, backward = (saved(net, None, direction) for direction in DIRECTIONS)
    limits = f"at most {forward:.4g} forward, {backward:.4g} backward, on an infinitely large image"
    _, published_, saves, left, *_ = rows["| Li, Zhao, Wang 2014"]
    assert published_ == "over 1500 times, forward and backward"
    assert saves == f"{limits} (authors133)"
    assert left == f"{1500 / forward:.3g} forward, {1500 / backward:.3g} backward"
    assert f"{forward:.4g} times forward and {backward:.4g} times backward on any image" in text
    for figure in TOLD.figures:
        if figure.counted:
            named = [one for one in DIRECTIONS if one in figure.published]
            said = [one for one in DIRECTIONS if one in rows[f"| {figure.who}"][2]]
            assert said == (named or ["forward"])


def test_sources_without_an_address_say_so():
    lines = [line for line in page.page([]).splitlines() if re.match(r"\d+\. ", line)]
    assert len(lines) == len(TOLD.sources)
    for line, source in zip(lines, TOLD.sources.values()):
        assert ("no address was found" in line) == (source.url is None)
        assert source.url is None or f"]({source.url})" in line


def test_what_was_told_agrees_with_itself():
    deepcell = next(one for one in TOLD.figures if one.who == "DeepCell")
    minutes, seconds = (
        float(re.search(rf"([\d.]+) {unit}\b", text)[1])
        for unit, text in (("minutes", deepcell.opponent), ("s", deepcell.published))
    )
    assert int(60 * minutes / seconds) == deepcell.speedup
    for one in TOLD.benchmark.times:
        assert 0.9 * one.total < sum(one.milliseconds) <= one.total
        assert len(one.milliseconds) == len(TOLD.benchmark.layers)
        told = next(f for f in TOLD.figures if f.hardware == one.hardware).published
        assert f"{one.total} ms {one.direction}" in told


def test_the_arithmetic_is_recounted_by_hand():
    """LeNet's layers on 20 x 20: 16, 8, 4, 2, 1 cells a side; in the dense form, on 531 x 531, a
    layer takes 4, 1, 8, 2, 4 cells from each side's length."""
    xu = next(one for one in TOLD.figures if one.counted == "lenet20")
    for_a_cell = (3 * 25 * 20, 20 * 25 * 50, 50 * 4 * 500, 500 * 2)
    scanning = 512**2 * sum(c * cells**2 for c, cells in zip(for_a_cell, (16, 4, 1, 1)))
    dense = sum(c * cells**2 for c, cells in zip(for_a_cell, (527, 518, 512, 512)))
    assert TOLD.arithmetic(xu) == pytest.approx({"forward": scanning / dense}, rel=1e-12)


def test_a_direction_is_counted_for_nets_that_are_not_in_the_zoo_too():
    """As above; a backward pass takes each layer twice, but the first."""
    xu = next(one for one in TOLD.figures if one.counted == "lenet20")
    both = replace(xu, published="500 times, forward and backward")
    for_a_cell = (3 * 25 * 20, 2 * 20 * 25 * 50, 2 * 50 * 4 * 500, 2 * 500 * 2)
    scanning = 512**2 * sum(c * cells**2 for c, cells in zip(for_a_cell, (16, 4, 1, 1)))
    dense = sum(c * cells**2 for c, cells in zip(for_a_cell, (527, 518, 512, 512)))
    told = TOLD.arithmetic(both)
    assert list(told) == list(DIRECTIONS)
    assert told["backward"] == pytest.approx(scanning / dense, rel=1e-12)
    assert TOLD.arithmetic(replace(both, counted=None)) == {}


@pytest.mark.parametrize(
    ("labelled", "ratio"), [(128, 535), (256, 689), (512, 779), (1024, 826), (None, 874.5)]
)
def test_arithmetic_saved_on_the_authors_net(labelled, ratio):
    assert saved(zoo.build("authors133", backend="reference"), labelled) == pytest.approx(
        ratio, abs=0.5
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", ["strided67", "featurenet31", "family-48"])
def test_no_image_saves_more_than_one_without_end(name, direction):
    net = built(name, backend="reference")
    ratios = [saved(net, size, direction) for size in (16, 64, 256, 10**6, None)]
    assert ratios == sorted(ratios)
    assert ratios[-1] == pytest.approx(ratios[-2], rel=1e-3)


def measured():
    """Rows of greentea102, layer by layer, as ``networks`` makes them."""
    layers = ["conv1 + relu1", "max1", "conv2 + relu2", "max2", "conv3 + relu3", "max3"]
    layers += ["fc1 + relu4", "fc2 + relu5", "fc3"]
    shared = {"net": "greentea102", "patch": 102, "labelled": 128, "timed_pixels": 9, "batch": 16}
    shared |= {"repeats": 5, "device_seconds": None, "peak_method": None}
    rows = []
    for form in ("scanning", "dense"):
        for direction in DIRECTIONS:
            order = layers if direction == "forward" else layers[::-1]
            first = [CUTTING] if (form, direction) == ("scanning", "forward") else []
            for place, layer in enumerate([*first, *order, TOTAL]):
                row = shared | {"form": form, "direction": direction, "layer": layer}
                row |= {"extrapolated": form == "scanning", "multiply_adds": 10**6}
                row |= dict.fromkeys(("seconds", "seconds_p20", "seconds_p80"), 0.001 * (place + 1))
                row |= dict.fromkeys(("speedup", "speedup_p20", "speedup_p80"), 33.0)
                rows.append(row | {"peak_bytes": 250_000_000 if layer == TOTAL else None})
    return rows


def test_what_a_machine_measured_stands_beside(tmp_path):
    store(tmp_path, measured(), "networks", "a-gpu", gpu="A GPU", backend="cuda")
    store(tmp_path, measured(), "networks", "quick", quick=True)
    text = page.page(stored.read(tmp_path, __main__.modules(), {}).machines)
    heads = [line for line in text.splitlines() if line.startswith("| published by")]
    assert heads[0].count("here: ") == 1
    assert "here: [A GPU, backend cuda](../results/a-gpu/networks/table.md)" in heads[0]
    assert text.count("33* (1), 33* (1); 10, 10 ms; at 128 x 128") == 3
    assert "| 28, counted here once; for which direction and size of image was not noted" in text
    assert "for the i7-4790K, 4 cores, OpenCL: 3.20 GB" in text
    (deepcell,) = (line for line in text.splitlines() if line.startswith("| DeepCell |"))
    assert "https://" not in deepcell
    lines = dict(line[2:].split(" | ", 1) for line in text.splitlines() if line.startswith("| "))
    for place, layer in enumerate(TOLD.benchmark.layers, 1):
        assert lines[layer].endswith(f"| {place} | {10 - place} |")
    assert lines["in all"].endswith("| 10 | 10 |")
    assert "here, forward and backward: 0.25 GB on A GPU" in text


def test_the_page_is_made_from_the_stored_results():
    results = stored.read(ROOT / "results", __main__.modules(), __main__.profile.views())
    text = (ROOT / "docs" / "published.md").read_text()
    assert text == page.page(results.machines)
    assert "e+" not in text
    for figure in TOLD.figures:
        cells = f"| {figure.who} |", f"| {figure.hardware} |", f"| {figure.published} |"
        assert any(all(cell in line for cell in cells) for line in text.splitlines())
    assert "published.md" in (ROOT / "docs" / "reproduction.md").read_text()


def printed_cells(table):
    """The columns of a printed table, as lists of cells without spaces; cells go on in the next
    line, whose first column is empty, and between columns at least two places are blank in all."""
    width = max(map(len, table))
    table = [line.ljust(width) for line in table]
    blank = "".join(" " if {line[i] for line in table} == {" "} else "x" for i in range(width))
    columns = [match.span() for match in re.finditer(r"x+(?: x+)*", blank)]
    rows = []
    for line in table:
        parts = [line[slice(*span)].strip() for span in columns]
        rows = [*rows, parts] if parts[0] else [*rows[:-1], [*map("".join, zip(rows[-1], parts))]]
    return [["".join(cell.split()) for cell in column] for column in zip(*rows)]


def test_the_command_prints_every_cell_of_the_page():
    told = experiments("published").stdout
    page_text = (ROOT / "docs" / "published.md").read_text()
    assert told.strip() == printed.fitted(page_text).strip()
    assert max(map(len, told.splitlines())) <= printed.WIDTH
    tables = re.findall(r"(?:^\|.*\|\n)+", page_text, re.MULTILINE)
    blocks = [[*block.splitlines()] for block in told.split("\n\n")]
    for table in tables:
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
        cells = [[re.sub(r"\\(.)|\s", r"\1", cell) for cell in row] for row in (rows[0], *rows[2:])]
        key, *columns = [[*column] for column in zip(*cells)]
        parts = [printed_cells(b) for b in blocks if len(b) > 1 and "  " in b[0]]
        parts = [part for part in parts if part[0] == key]
        assert [column for part in parts for column in part[1:]] == columns


def test_the_command_needs_results(tmp_path):
    done = experiments("published", "--out", tmp_path)
    assert done.returncode == 2
    assert f"--out is {tmp_path}; expected results" in done.stderr
