"""Forward pass and input gradient on the host: one gather over tables of taps.

Every output pixel sums its taps, region by region (``cpu_taps.py``), in register tiles of output
channels x pixels (``kernels/simd.py``) of one of two forms: pixels of a wide row along the lanes
(``cpu_rows.py``), or channels along the lanes and any pixels beside each other
(``cpu_scattered.py``). Both sum the taps in the order (channel, i, j) with fused multiply-adds, so
both forms of a net give the same bits.
"""

from kernels import simd
from kernels.convolution import cpu_rows, cpu_scattered


def correlate(out, source, weights, start, rows, columns):
    """Fill N x K x H x W ``out`` from N x C x h x w ``source`` by its taps.

    Args:
        weights: K x C x kh x kw, any strides.
        start: K, what each channel's sums start from.
        rows, columns: ``Taps`` of both axes.
    """
    wide, others = [], []
    for s, width in enumerate(columns.count):
        dense = columns.step == columns.pitch == rows.step == rows.pitch == 1
        in_rows = dense and _rows_cost_less(out.shape[1], width, simd.lanes(out.itemsize))
        regions = [(r, s) for r in range(len(rows.count))]
        (wide if in_rows else others).extend(regions)
    for form, regions in ((cpu_rows, wide), (cpu_scattered, others)):
        if regions:
            form.correlate(out, source, weights, start, rows, columns, regions)


def _rows_cost_less(filters, width, lanes):
    """Whether ``width`` pixels fill tiles better along the lanes than channels do.

    A step of v vectors takes as long as its multiply-adds or its loads, of which those of
    neighbouring pixels mostly straddle two cache lines.
    """
    if width < lanes:
        return False
    together = simd.columns()
    along, left = 0, width
    while left > 0:
        v = min(simd.MAX_VECTORS, -(-left // lanes), width // lanes)
        along += max(v * together, 2 * v + together + 2)
        left -= v * lanes
    along *= -(-filters // together)
    vectors = [v for _, v in cpu_scattered.blocks(-(-filters // lanes))]
    return along <= sum(max(v * together, v + 2 * together + 2) for v in vectors) * width / together
