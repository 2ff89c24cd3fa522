"""Verdicts follow from the numbers, and the page of claims from the stored files."""

import re
from pathlib import Path

import pytest

from experiments import __main__, growth, networks
from experiments.modelling import page as model_page
from experiments.reporting import claims, pages, stored
from experiments.reporting.claims import CLAIMS, MISSING, NOT, PARTLY, SUPPORTED
from experiments.reporting.derived import BUSY, PACED_BY_HOST, by_image, by_patch
from experiments.reporting.speedups import Case, paragraph
from tests.experiments.stored_results import store

ROOT = Path(__file__).parents[2]
BY_TEXT = {claim.text: claim for claim in CLAIMS}


def claim(words):
    (chosen,) = (claim for text, claim in BY_TEXT.items() if words in text)
    return chosen


def equality(difference, bits):
    row = {"net": "n4", "scores_difference": 0.0, "gradients_difference": difference}
    return [row | {"dtype": d, "scores_equal_bits": bits} for d in ("float64", "float32")]


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        (equality(1e-13, 1.0), SUPPORTED),
        (equality(1e-7, 1.0), PARTLY),
        (equality(1e-13, 0.99), PARTLY),
        (equality(1e-3, 0.99), NOT),
    ],
)
def test_equality(rows, verdict):
    assert claim("exactly the same").judged({"equality": rows}).verdict == verdict


def full(row):
    """A row with all columns of the experiment."""
    empty = dict.fromkeys(networks.COLUMNS) | {"extrapolated": True, "timed_pixels": 9, "batch": 16}
    empty |= dict.fromkeys(("seconds", "seconds_p20", "seconds_p80"), 0.5) | {"repeats": 5}
    return empty | row


def compared(net, patch, labelled, speedup, guessed=True, device=None):
    shared = {"net": net, "patch": patch, "labelled": labelled, "layer": "total"}
    shared |= {"seconds": 0.5, "device_seconds": device}
    return [
        shared
        | {"direction": direction, "form": form, "speedup": speedup}
        | {"extrapolated": guessed and form == "scanning"}
        | {"multiply_adds": 300 if form == "scanning" else 1}
        for direction in ("forward", "backward")
        for form in ("scanning", "dense")
    ]


@pytest.mark.parametrize(
    ("speedups", "verdict"),
    [((1600, 2000), SUPPORTED), ((1500, 2000), PARTLY), ((20, 900), NOT)],
)
def test_over_1500_names_every_net(speedups, verdict):
    a, b = speedups
    rows = compared("a", 9, 128, a) + compared("b", 9, 128, b, guessed=False)
    for direction in ("forward", "backward"):
        judged = claim(f"propagation ({direction})").judged({"networks": rows})
        assert judged.verdict == verdict
        assert f"a {a}* at 128" in judged.result
        assert f"b {b} at 128" in judged.result


@pytest.mark.parametrize("share", [0.0, 0.5 * BUSY, 0.99 * BUSY, BUSY, 0.99])
def test_a_speedup_over_scanning_that_waits_for_the_host_is_marked(share):
    """In every table and sentence that tells it, with a legend; 0: the device ran dry, so that its
    time is not known."""
    speedup = "1600*‡" if share < BUSY else "1600*"
    device = 0.5 * share or None
    rows = compared("n4", 95, 64, 1600, device=device) + compared("n4", 95, 128, 1600, device=0.5)
    every = [full(row) | dict.fromkeys(("speedup_p20", "speedup_p80"), 7.0) for row in rows]
    for experiment in (networks, growth):
        text = experiment.table(every)
        first, second = (f"| {marked} (7 to 7) |" for marked in (speedup, "1600*"))
        assert text.count(first) == (2 if share < BUSY else 4)
        assert text.count(second) == (2 if share < BUSY else 4)
        assert PACED_BY_HOST in text
    assert ("| not measured |" in networks.table(every)) == (device is None)
    of_both = claim("propagation (forward)")
    judged = of_both.judged({"networks": rows})
    assert f"n4 {speedup} at 64 x 64" in judged.result
    assert f"over 1500 in {1 if '‡' in speedup else 2} of 2 cases" in judged.result
    assert f"forward: {speedup} at image 64" in claim("(images)").judged({"growth": rows}).result
    assert all(PACED_BY_HOST in one.tested for one in (of_both, claim("(images)")))


def test_over_1500_counts_all_nets_at_all_sizes_of_both_experiments():
    networks = compared("n4", 95, 128, 700) + compared("n4", 95, 256, 1600)
    growth = compared("family-16", 16, 64, 20)
    for rows, verdict, counted in (
        ({"networks": networks}, SUPPORTED, "1 of 2 cases"),
        ({"networks": networks, "growth": growth}, PARTLY, "1 of 3 cases"),
        ({"growth": growth}, NOT, "0 of 1 cases"),
    ):
        judged = claim("propagation (backward)").judged(rows)
        assert judged.verdict == verdict
        assert counted in judged.result


@pytest.mark.parametrize("gpu", [False, True])
def test_a_paragraph_says_which_nets_pass_and_which_would(tmp_path, gpu):
    """n4 would take 555 x 700 / 300 on an infinitely large image, lenet28 5.3 x 20 / 300."""
    rows = {"a-cpu": [("n4", 95, 128, 700), ("lenet28", 28, 512, 20)], "another": []}
    rows["another"] = [("authors133", 133, 1024, 1700), ("lenet28", 28, 512, 5)]
    for machine, told in rows.items():
        full_rows = [full(row) for case in told for row in compared(*case)]
        record = {"gpu": "A GPU", "backend": "cuda"} if gpu and machine == "another" else {}
        store(tmp_path, full_rows, "networks", machine, cpu=machine, **record)
    page = pages.reproduction(stored.read(tmp_path, __main__.modules(), {}).machines)
    name = "A GPU, backend cuda" if gpu else "another, 2 threads, backend cpu"
    for direction, n4, authors in (("Forward", 554.9, 874.5), ("Backward", 541, 470.3)):
        (said,) = re.findall(rf"\*\*Which nets, at which sizes.\*\* {direction}.*", page)
        assert f"over 1500: authors133 1700* at 1024 x 1024 ({name})." in said
        assert f"at most {max(n4, authors):.4g} times" in said
        others = f"n4 ({n4:.4g} x 2.33), lenet28 ("
        assert f"no other net could exceed 1500 on a larger image: {others}" in said
        measured = f"on a GPU, {name}: over 1500 in 1 of 2 cases, at most authors133 1700*"
        assert (measured in said) == gpu
        assert ("No GPU has measured it." in said) != gpu
    assert (claims.NO_GPU in page) != gpu


def test_what_passes_by_the_product_alone_is_told_apart():
    n4, lenet28 = (
        Case("n4", 128, 1300.0, 300.0, "", False),
        Case("lenet28", 128, 9.0, 5.0, "*", False),
    )
    said = paragraph("forward", {"a machine": [n4, lenet28]}, set())
    assert (
        "By this product n4 (554.9 x 4.33) could exceed 1500 on a larger image, and no other net "
        "could: lenet28 (5.326 x 1.80)." in said
    )
    said = paragraph("forward", {"a machine": [lenet28]}, set())
    assert "By this product no net could exceed 1500 on a larger image: lenet28 (" in said


@pytest.mark.parametrize(
    ("speedups", "verdict"),
    [((1, 2, 3), SUPPORTED), ((1, 3, 2), PARTLY), ((3, 2, 1), NOT)],
)
def test_growth(speedups, verdict):
    images = [
        row
        for n, s in zip((64, 128, 256), speedups)
        for row in compared("a", 16, n, s, guessed=n == 64)
    ]
    judged = claim("(images)").judged({"growth": images})
    assert judged.verdict == verdict
    first, _, last = speedups
    assert f"a, backward: {first}* at image 64 to {last} at 256" in judged.result
    patches = [row for p, s in zip((16, 32, 64), speedups) for row in compared(f"f{p}", p, 256, s)]
    assert claim("(patches)").judged({"growth": patches}).verdict == verdict


def test_growth_finds_both_series_in_one_set_of_rows():
    rows = compared("a", 16, 64, 1, guessed=False)
    rows += compared("a", 16, 256, 2) + compared("b", 32, 256, 3)
    assert by_image(rows)["a"]["forward"] == [(64, 1, 300, ""), (256, 2, 300, "*")]
    assert by_patch(rows)[256]["backward"] == [(16, 2, 300, "*"), (32, 3, 300, "*")]


@pytest.mark.parametrize(("slowest", "verdict"), [(1.1, SUPPORTED), (2.0, NOT)])
def test_constant_cost(slowest, verdict):
    rows = [
        {"net": "n", "form": form, "kind": kind, "pixels": n, "sample": n, "seconds": s}
        | {"extrapolated": False, "of_round": s, "labelled": size, "drawn": "random"}
        for size, scale in ((8, 1), (16, 5))
        for n, s in ((1, scale * 1.0), (9, scale * slowest))
        for form in ("scanning", "dense")
        for kind in ("backward", "forward + backward")
    ]
    judged = claim("constant with respect").judged({"sampled": rows})
    assert judged.verdict == verdict
    assert "needed cells" not in judged.result
    assert "to train below 5 (n) pixels" in judged.result
    guessed = [row | {"extrapolated": row["pixels"] == 9} for row in rows]
    judged = claim("constant with respect").judged({"sampled": guessed})
    assert "to train below 5* (n) pixels" in judged.result
    for factor, told in ((1.1, "no such crossing point"), (1.6, "takes up to 1.60 times")):
        needed = [
            row | {"form": "needed", "seconds": factor * row["seconds"]}
            for row in rows
            if row["form"] == "scanning"
        ]
        judged = claim("constant with respect").judged({"sampled": rows + needed})
        assert judged.verdict == verdict
        assert told in judged.result


@pytest.mark.parametrize(
    ("asked", "verdict"), [((90, 60), SUPPORTED), ((90, 40), PARTLY), ((40, 30), NOT)]
)
def test_continuous_access(asked, verdict):
    rows = [
        {"form": form, "net": "n4", "layer": "conv1", "kernel": kernel, "access": "read"}
        | {
            "is_map": True,
            "asked": bytes_asked if form == "dense" else 20,
            "moved": 100,
            "share": 0.5,
        }
        for kernel, bytes_asked in zip("ab", asked)
        for form in ("dense", "patch")
    ]
    rows.append(rows[0] | {"is_map": False, "kernel": "weights", "asked": 1})
    rows += [row | {"net": "another"} for row in rows]
    judged = claim("continuously access memory").judged({"memory": rows})
    assert judged.verdict == verdict
    assert "of 4 accesses" in judged.result
    assert "patch net 20% to 20%" in judged.result


@pytest.mark.parametrize(
    ("speed", "device", "verdict"),
    [(0.9, True, SUPPORTED), (0.4, True, NOT), (0.9, False, MISSING)],
)
def test_efficiency_needs_a_gpu(speed, device, verdict):
    rows = [
        {"axis": "d", "d": d, "operation": "forward", "work": 1e9 * s, "gflops": 1.0}
        | {"seconds": 1.0, "device_seconds": 1.0 if device else None}
        for d, s in ((1, 1.0), (16, speed))
    ]
    if device:
        rows.append(rows[0] | {"d": 4, "seconds": 99.0, "device_seconds": None})
    assert claim("efficiently on GPUs").judged({"convolution": rows}).verdict == verdict


def test_what_was_not_run_has_no_verdict():
    for each in CLAIMS:
        assert each.judged({}).verdict == MISSING


def _stored_machines():
    return stored.read(ROOT / "results", __main__.modules(), __main__.profile.views()).machines


def test_the_page_of_claims_is_made_from_the_stored_results():
    results = stored.read(ROOT / "results", __main__.modules(), __main__.profile.views())
    page = (ROOT / "docs" / "reproduction.md").read_text()
    assert page == pages.reproduction(results.machines, model_page.notes(results.profiles))
    for each in CLAIMS:
        assert each.text in page
    assert claims.HOW_TO_RUN in page


def test_the_comparison_in_the_readme_is_made_from_the_stored_results():
    experiments = __main__.modules()
    machines = _stored_machines()
    text = (ROOT / "README.md").read_text()
    assert pages.readme(machines, experiments, text) == text
    assert "\n+ " not in text  # it would be a list
    assert pages.readme([], experiments, text) != text


@pytest.mark.parametrize("text", ["", pages.BEGIN, f"{pages.END}\n{pages.BEGIN}", pages.END * 2])
def test_a_readme_without_the_lines_is_refused(text):
    with pytest.raises(ValueError, match="the README lacks the lines"):
        pages.readme([], {}, text)
