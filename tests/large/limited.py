"""Labels a TIFF in a process whose own memory is limited to 2 GB, and says how it went:
``python -m tests.large.limited IMAGE OUT``."""

import json
import resource
import sys
import time
from pathlib import Path

LIMIT = 2 * 10**9


def main(image, out):
    """What is printed: regions before and after, pixels a second, and the peak of memory."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    from net import Net
    from net.large import plan
    from net.layers import Convolution, FullyConnected, MaxPool, ReLU

    layers = [Convolution(4, 3), ReLU(), MaxPool(2), Convolution(6, 3), ReLU(), FullyConnected(3)]
    net = Net(layers, channels=1, patch=(12, 13), backend="cpu")
    planned = plan(image, net, out, memory="1.8 GB")
    print(planned, file=sys.stderr, flush=True)
    started = time.perf_counter()
    steps = [planned.done]
    planned.execute(lambda done, total: steps.append(done))
    seconds, grid = time.perf_counter() - started, planned.layout.grid
    status = Path("/proc/self/status").read_text().split()
    said = {
        "before": steps[0],
        "after": steps[-1],
        "regions": len(grid),
        "region": grid.region,
        "megapixels_per_second": (steps[-1] - steps[0])
        * (grid.size[0] * grid.size[1] / len(grid))
        / seconds
        / 1e6,
        "peak_bytes": 1024 * int(status[status.index("VmHWM:") + 1]),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
