"""The machine code of the host's convolutions: their innermost loops are part of what threads run.

Numba makes machine code of every function alone, too, with less optimization, and this is what the
process calls that made it: up to 3.6 times slower than what later processes load. No result shows
it. A case is a process whose cache is empty, as nothing is compiled where the cache has it.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.test_threads import CASES, map_of

ROOT = Path(__file__).parents[2]
CONVOLUTIONS = {
    f"{module.__name__}.{name}": (getattr(module, name), call)
    for module, name, call in CASES
    if "convolution" in module.__name__
}
OF_LOOPS = (
    "kernels.convolution.cpu_rows._correlate",
    *(
        pytest.param(name, marks=pytest.mark.long)
        for name in (
            "kernels.convolution.cpu_rows_of_errors._correlate",
            "kernels.convolution.cpu_scattered._correlate",
            "kernels.convolution.cpu_gradient_weights._add_up",
            "kernels.listed_convolution.cpu._correlate",
            "kernels.listed_convolution.cpu._add_up",
            "kernels.listed_convolution.cpu._scatter",
        )
    ),
)
PARALLEL = "parfor_gufunc"
"""In the names that Numba gives to what threads run."""
SYMBOL, MULTIPLY_ADD = re.compile(r"^(\w[\w$.]*):"), re.compile(r"\s(vfmadd|fmla)")


def multiply_adds(name) -> dict[str, int]:
    """How many instructions multiply and add in each function of the machine code of an
    operator."""
    function, call = CONVOLUTIONS[name]
    call(map_of(100))
    counted, symbol = {}, ""
    for line in "\n".join(function.dispatcher.inspect_asm().values()).splitlines():
        begins = SYMBOL.match(line)
        symbol = begins[1] if begins else symbol
        if MULTIPLY_ADD.search(line):
            counted[symbol] = counted.get(symbol, 0) + 1
    return counted


@pytest.mark.cpu
@pytest.mark.parametrize("name", OF_LOOPS)
def test_no_loop_is_called_as_a_function(name, tmp_path):
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, __file__, name],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    counted = json.loads(done.stdout.splitlines()[-1])
    assert counted
    assert all(PARALLEL in symbol for symbol in counted), counted


if __name__ == "__main__":
    print(json.dumps(multiply_adds(sys.argv[1])))
