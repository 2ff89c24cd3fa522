"""What a stranger installs: pyproject.toml and environment.yml agree, and the promises hold."""

import importlib
import re
import tomllib
from pathlib import Path

import yaml

from tests import api

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())


def _requirements(lines):
    """{name: bounds}, extras of a package dropped."""
    found = {}
    for line in lines:
        name, bounds = re.fullmatch(r"([a-z0-9-]+)(?:\[\w+\])?(.*)", line).groups()
        found[name] = max(bounds, found.get(name, ""), key=len)
    return found


def test_environment_and_pyproject_hold_the_same_packages_and_bounds():
    pip = _requirements(PROJECT["dependencies"] + EXTRAS["test"] + EXTRAS["profile"])
    conda = _requirements(ENVIRONMENT["dependencies"])
    assert conda.pop("python") == PROJECT["requires-python"]
    conda.pop("cuda-version")
    conda["nvidia-cuda-nvdisasm"] = conda.pop("cuda-nvdisasm")
    assert conda == pip


def test_a_plain_install_and_the_tests_bring_no_compiler_wheels():
    """So that the tests run beside the compilers of CUDA 12 as well."""
    lines = [*PROJECT["dependencies"], *EXTRAS["test"]]
    assert not [line for line in lines if line.startswith(("numba-cuda[", "nvidia"))]


def test_make_test_installs_what_the_compile_tier_needs():
    (extras,) = re.findall(r'--editable "\.\[(test\S*)\]"', (ROOT / "Makefile").read_text())
    assert set(extras.split(",")) == {"test", "profile"}


def test_the_extras_are_those_of_the_readme():
    assert set(EXTRAS) == {
        *(
            "cuda12",
            "cuda13",
            "profile",
            "test",
            "bench",
            "large",
            "torch",
            "onnx",
            "learn",
            "docs",
        ),
    }


def test_the_modules_of_the_api_reference_are_there():
    assert "net" in api.modules()
    for module in api.modules():
        assert importlib.import_module(module).__doc__


def test_the_readme_shows_a_figure_that_the_program_made():
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert shown, "README.md shows no figure"
    for path in shown:
        folder = (ROOT / path).parent
        assert (ROOT / path).is_file()
        assert (folder / "record.json").is_file()


def test_the_citation_prefers_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["preferred-citation"]["identifiers"][0]["value"] == "arXiv:1412.4526"
