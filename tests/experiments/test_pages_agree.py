"""No page contradicts another: README, index and claims against the stored rows."""

import json
import re
from itertools import product
from pathlib import Path

import pytest

from experiments import __main__, against_torch, networks, pooling
from experiments.inputs.arithmetic import BOTH, DIRECTIONS, saved
from experiments.measuring.beside_torch import THREADS
from experiments.measuring.peak import PASSES
from experiments.reporting import claims, pages, report, stored
from experiments.reporting.derived import totals_of
from experiments.reporting.limitations import limitations
from experiments.reporting.markdown import escaped
from experiments.reporting.numbers import short
from experiments.storing import cache
from experiments.storing.machine import GENERATED
from net import files, zoo
from tests.experiments.stored_results import growth, store

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "results" / "README.md"]


@pytest.fixture(scope="module")
def results():
    return stored.read(ROOT / "results", __main__.modules(), __main__.profile.views())


def verdicts(lines):
    """Verdicts by (claim, machine), from the lines of the index."""
    found, machine = {}, None
    for line in lines:
        machine = line[3:] if line.startswith("## ") else machine
        for text, verdict in re.findall(r'"([^"]+)": \*\*([a-z ]+)\*\*', line):
            found.setdefault((text, machine), set()).add(verdict)
    return found


def test_the_index_is_made_from_the_stored_results(results):
    made = set((ROOT / "results").glob("*/*/figure.png"))
    text = (ROOT / "results" / "README.md").read_text()
    views = __main__.profile.views()
    assert text == report.index(results, __main__.modules(), views, made)


def test_index_and_claims_give_the_verdicts_of_the_rows(results):
    index = verdicts((ROOT / "results" / "README.md").read_text().splitlines())
    page = (ROOT / "docs" / "reproduction.md").read_text()
    head, *rows = (line for line in page.splitlines() if re.match(r"\| (claim|\d+\.) ", line))
    columns = head.removesuffix(" |").split(" | ")[1:]
    assert len(rows) == len(claims.CLAIMS)
    for claim, row in zip(claims.CLAIMS, rows):
        of_page = dict(zip(columns, row.removesuffix(" |").split(" | ")[1:]))
        for machine in results.machines:
            verdict = machine.judged(claim).verdict
            if any(name in machine.results for name in claim.experiments):
                assert index[claim.text, machine.name] == {verdict}
                assert of_page[machine.name] == verdict


def test_the_readme_tells_what_arithmetic_saves_on_the_zoo():
    sizes = {net: (*networks.SIZES, *networks.LARGER.get(net, ())) for net in zoo.ZOO}
    ratios = [
        saved(zoo.build(net, backend="reference"), size) for net in sizes for size in sizes[net]
    ]
    text = " ".join(PAGES[0].read_text().split())
    (told,) = re.findall(r"\((\d+) to (\d+) times on the nets of the zoo\)", text)
    assert told == (f"{min(ratios):.0f}", f"{max(ratios):.0f}")


HOSTS = {
    "AVX-512": "amd-epyc-family-26-model-2-2-cores-cpu",
    "AVX2": "amd-epyc-family-26-model-2-avx2-alone-2-cores-cpu",
    "Zen 4": "amd-epyc-family-25-model-17-2-cores-cpu",  # of AVX2
}
"""Those whose rows ``docs/host.md`` quotes."""


def rows_of(name, machine=HOSTS["AVX-512"]):
    """The stored rows of an experiment."""
    return stored.load(ROOT / "results" / machine / name, __main__.modules()[name]).rows


def quoted(page, pattern):
    text = " ".join((ROOT / "docs" / page).read_text().split())
    (found,) = re.findall(pattern, text)
    return found


def test_the_page_on_profiling_quotes_the_stored_rows():
    (row,) = (one for one in rows_of("host") if (one["net"], one["direction"]) == ("n4", PASSES[1]))
    told = quoted(
        "profiling.md", r"It took \[([\d.]+) ms\]\S+ \(p20 to p80: ([\d.]+) to ([\d.]+)\)"
    )
    assert told == tuple(f"{1e3 * row[f'seconds{q}']:.3g}" for q in ("", "_p20", "_p80"))
    assert row["seconds"] <= 1.5e-3, "what the page aims at"


def test_the_page_on_large_images_quotes_the_stored_rows():
    for pattern, column, factor in (
        (r"\((\d+)% to (\d+)% on two cores", "share", 100),
        (r"\((\d+) to (\d+) MB of 1,000 there", "peak_bytes", 1e-6),
    ):
        values = [row[column] * factor for row in rows_of("large") if row[column] is not None]
        told = quoted("large-images.md", pattern)
        assert told == (f"{min(values):.0f}", f"{max(values):.0f}")


def test_the_page_on_training_quotes_the_stored_rows():
    seconds = {}
    for row in rows_of("scribbles"):
        seconds.setdefault((row["case"], row["learner"]), []).append(row["fit_seconds"])
    shares = [100 * sum(seconds[case, "forest"]) / sum(seconds[case, "net"]) for case, _ in seconds]
    told = quoted("training.md", r"a forest learns in (\d+) to (\d+)% of its time")
    assert told == (f"{min(shares):.0f}", f"{max(shares):.0f}")


def test_the_page_on_the_host_quotes_max_pooling():
    """Least over the distances, beside a copy in the same rounds and beside one by itself."""
    rows = rows_of("pooling", HOSTS["Zen 4"])
    by_itself = {
        (row["kernel"], row["d"], row["operation"]): row["work"]
        / row["seconds"]
        / 1e9
        / row["gbytes"]
        for row in rows
        if row["axis"] == pooling.BESIDE
    }
    lines = (ROOT / "docs" / "host.md").read_text().splitlines()
    for kernel, aims in pooling.AIMS.items():
        cells = [f"{kernel} x {kernel}", "{} / {}".format(*aims)]
        for shares in (by_itself, pooling._shares(rows)):
            least = [
                min(share for (k, _, o), share in shares.items() if (k, o) == (kernel, operation))
                for operation in ("forward without cells", "forward")
            ]
            cells.append("{:.2f} / {:.2f}".format(*least))
        assert any(line.startswith(f"| {' | '.join(cells)} |") for line in lines), cells


def beside_torch():
    """The rows of ``against_torch``, by host."""
    return {name: rows_of("against_torch", machine) for name, machine in HOSTS.items()}


@pytest.mark.parametrize("host", HOSTS)
def test_the_page_on_the_host_names_each_net_that_misses_its_aim(host):
    section = (ROOT / "docs" / "host.md").read_text().partition("\n## Beside PyTorch\n")[2]
    section = section.partition("\n## ")[0]
    rows = beside_torch()[host]
    for (form, p), targets in against_torch.TARGETS.items():
        ratios = against_torch._ratios(rows, form, p, "best")
        each, mean = targets["best"]
        for place, ratio in ratios.items():
            if ratio < each:
                assert f"`{place.split()[0]}`" in section, (form, p, place)
                assert f"{ratio:.2f}" in section, (form, p, place)
        if mean:
            aim = float(re.findall(r"[\d.]+", mean)[0 if host == "AVX-512" else -1])
            reached = against_torch._mean(ratios)
            assert reached >= aim or f"{reached:.2f} in the mean for {aim}" in section


def test_the_page_on_the_host_quotes_how_two_threads_scale():
    told = quoted(
        "host.md",
        r"Two threads take ([\d.]+) to ([\d.]+) times one on AVX-512, "
        r"and ([\d.]+) to ([\d.]+) on AVX2",
    )
    ratios = [
        [row["ratio"] for row in rows if (row["form"], row["way"]) == (THREADS, "1 thread")]
        for rows in [*beside_torch().values()][:2]
    ]
    assert told == tuple(f"{end(of_one):.2f}" for of_one in ratios for end in (min, max))


def test_the_page_on_gpus_quotes_the_model_and_what_the_first_gpu_measured(results):
    (model,) = (one for one in results.profiles if one.record["experiment"] == "model")
    assert model.record["commit"].startswith(quoted("gpu.md", r"\[of commit (\w{7,})\]"))
    of_h100 = {
        (r["net"], r["direction"], r["form"]): r for r in model.rows if r["device"] == "H100"
    }
    dense = (r["seconds"] for key, r in of_h100.items() if key[1:] == (BOTH, "dense"))
    assert quoted("gpu.md", r"adds up to ([\d.]+) seconds on the H100") == f"{sum(dense):.2f}"
    totals = totals_of(rows_of("networks", "nvidia-h100-80gb-hbm3-cuda"))
    text = (ROOT / "docs" / "gpu.md").read_text()
    told, longer = re.findall(r"^ +\| ([a-z]+\d+) \| (.+) \|$", text, re.MULTILINE), {}
    assert len(told) == 4
    for net, cells in told:
        scan, one_pass = (of_h100[net, "forward", form] for form in ("scanning", "dense"))
        scanned, passed = (totals[net, 256, "forward", form] for form in ("scanning", "dense"))
        pairs = [scan["seconds"], scanned["seconds"], one_pass["seconds"], passed["device_seconds"]]
        values = [*(1e3 * s for s in pairs), scan["speedup"], passed["speedup"]]
        assert cells.split(" | ") == [short(value) for value in values]
        longer |= {(net, i): f"{100 * (pairs[i + 1] / pairs[i] - 1):.0f}" for i in (0, 2)}
    pattern = r"took (\d+) to (\d+)% longer, and scanning with lenet28 (\d+)%"
    *ends, most = quoted("gpu.md", pattern)
    assert most == longer.pop(("lenet28", 0))
    assert ends == [choose(longer.values(), key=float) for choose in (min, max)]
    pattern = r"`authors133` (\d+) times forward and (\d+) backward, `n4` (\d+) and (\d+)"
    cases = product(("authors133", "n4"), (512,), DIRECTIONS, ("dense",))
    assert quoted("gpu.md", pattern) == tuple(short(totals[case]["speedup"]) for case in cases)


def test_pages_tell_the_same_of_quick():
    for path in (ROOT / "README.md", ROOT / "docs" / "reproduction.md"):
        text = " ".join(path.read_text().split())
        assert re.search(r"`--quick`[^.]*within a minute", text)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_page_denies_a_gpu_that_has_reported(path, results):
    text = " ".join(path.read_text().split())
    denied = re.search(
        r"No (machine with a CUDA )?GPU has (reported|measured)|None has reported", text
    )
    if any(machine.record["backend"] == "cuda" for machine in results.machines):
        assert not denied
    elif path.name in ("reproduction.md", "README.md") and path.parent.name != ROOT.name:
        assert denied


def read(out):
    return stored.read(out, __main__.modules(), __main__.profile.views())


def told(out):
    return "\n".join(limitations(read(out), ("equality", "growth")))


def test_limitations_follow_the_records(tmp_path):
    store(tmp_path, machine="host", code="a" * 64)
    text = told(tmp_path)
    assert "**GPU.** None has reported" in text
    assert "A CPU, 2 threads of 2 cores. What more than 2 threads give was not measured" in text
    assert "**Extrapolation.** No time is extrapolated" in text
    assert "All results are of one state of the code: code aaaaaaaaaaaa." in text
    rows = [row | {"extrapolated": row["form"] == "scanning"} for row in growth()]
    gpu = {"gpu": "A GPU", "backend": "cuda", "cpu": "Its host"}
    store(tmp_path, rows, "growth", "gpu", code="b" * 64, **gpu)
    text = told(tmp_path)
    assert "**GPU.** Reported: A GPU, backend cuda: growth, without equality." in text
    store(tmp_path, rows, "growth", "gpu", code="b" * 64, nets=["family-16"], **gpu)
    assert "A GPU, backend cuda: growth (family-16 alone), without" in told(tmp_path)
    store(tmp_path, rows, "growth", "gpu", code="b" * 64, **gpu)
    assert "Its host" not in text
    assert "6 of 6 on A GPU, backend cuda" in text
    assert "2 states of the code." in text
    assert "code aaaaaaaaaaaa: equality on A CPU." in text
    assert "code bbbbbbbbbbbb: growth on A GPU." in text
    page = pages.reproduction(read(tmp_path).machines)
    assert "The results are of 2 states of the code." in page
    store(tmp_path, rows, "growth", "gpu", quick=True, commit="c" * 40, **gpu)
    text = told(tmp_path)
    assert "Of `--quick`, and no results: growth on A GPU" in text
    assert "commit cccccccccccc, no digest recorded: growth on A GPU" in text


@pytest.mark.parametrize(
    ("changed", "time"),
    [
        ({"seconds": 61.4, "measurements": {"made": 2, "reused": 0}}, "61 seconds"),
        ({"seconds": 600.0, "measurements": {"made": 1, "reused": 9}, "code": "a"}, "10 minutes"),
        ({"seconds": 0.0, "measurements": {"made": 0, "kept": 7}}, "not recorded: part of it"),
        ({"seconds": "soon"}, "not recorded"),
        ({}, "not recorded"),
    ],
)
def test_a_page_begins_with_its_claims_and_what_it_took(tmp_path, changed, time):
    folder = store(tmp_path, growth(), "growth", **changed)
    experiment = __main__.modules()["growth"]
    made = report.shown(experiment, stored.load(folder, experiment))
    title, _, served, took, changes, limits, *_ = (
        made.pop(folder / report.PAGE).decode().split("\n")
    )
    assert title == "# Growth"
    for number, claim in enumerate(claims.CLAIMS, 1):
        assert (f'{number}. "{claim.text}"' in served) == ("growth" in claim.experiments)
        assert (f"{number}: {claim.changes}" in changes) == ("growth" in claim.experiments)
    command = "`python -m experiments growth` (here as part of `python -m experiments all`)"
    assert f"**Command:** {command}; **time:** {time}" in took
    assert "[claim by claim](../../../docs/reproduction.md)" in served
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert f"**disk:** {size / 1e3:.0f} kB, pages and figures apart" in took
    assert "README.md#limitations" in limits


def test_a_state_of_the_code_is_the_same_until_what_is_measured_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "ROOT", tmp_path)
    digests = []
    for path, text in (("net/a.py", "1"), ("experiments/measuring/b.py", "2"), ("docs/c.py", "3")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
        digests.append(cache.state_digest())
    assert digests[0] != digests[1] == digests[2]
    (tmp_path / "net/a.py").write_text("4")
    assert cache.state_digest() not in digests


def test_what_needs_no_gpu_is_of_one_state_on_each_host_and_of_what_is_committed():
    measured, codes = set(), {}
    for folders in ("*-cpu/*", "profile/*"):
        for path in (ROOT / "results").glob(f"{folders}/record.json"):
            record, folder = json.loads(path.read_text()), path.parent
            assert not record["dirty"], folder
            measured.add(folder.name)
            codes.setdefault(folder.parent.name, set()).add(record["code"])
    assert measured >= {*__main__.EXPERIMENTS, *zoo.ZOO, "targets", "model"}
    assert codes.keys() >= {*HOSTS.values(), "profile"}
    assert all(len(of_host) == 1 for of_host in codes.values()), codes


def test_what_report_writes_counts_as_no_change_of_the_code(monkeypatch):
    written = []
    monkeypatch.setattr(files, "write_atomically", lambda path, content: written.append(path))
    monkeypatch.setattr(report, "everything", lambda *given: {})
    monkeypatch.chdir(ROOT)
    assert __main__.main(["report"]) == 0
    assert len(written) == 3
    for path in written:
        assert any(path.is_relative_to(place) for place in GENERATED)


def test_hostile_names_stay_text_in_limitations(tmp_path):
    store(tmp_path, cpu="<b> | x", gpu=None)
    assert escaped("<b> | x") in told(tmp_path)
    assert "<b> | x" not in told(tmp_path)
