"""What a base install does without the extra ``large``."""

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
for name in ("zarr", "dask", "distributed", "imagecodecs"):
    sys.modules[name] = None
import numpy as np
import net, net.__main__
from net import large, zoo

small = zoo.build("lenet28", backend="reference")
image = np.zeros((30, 31), np.uint8)
large.label(image, small, sys.argv[1] + "/labels.npy", where=image)
for out, options in (("a.zarr", {}), ("a.npy", {"client": "tcp://nobody:1"})):
    try:
        large.label(image, small, sys.argv[1] + "/" + out, **options)
    except ModuleNotFoundError as error:
        print(error)
"""


def test_the_packages_are_named_where_they_are_needed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    a, b = done.stdout.splitlines()
    assert a.endswith('a.zarr needs the package zarr: pip install zarr, or the extra "large"')
    assert b.startswith("a cluster needs the package distributed: pip install distributed")
    assert not (tmp_path / "a.zarr").exists()
