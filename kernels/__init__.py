"""The operators of dense, pixelwise networks, each on every backend.

One folder for each operator; in it ``reference.py`` (NumPy, float64, the definition), ``cpu.py``
(Numba for the host) and ``cuda.py`` (hand-written ``numba.cuda`` kernels, also run by the CUDA
simulator) hold functions of the same names and arguments. ``get_backend`` binds one of the three.
"""

from kernels.backends import BACKENDS, Backend, BackendUnavailable, get_backend

__all__ = ["BACKENDS", "Backend", "BackendUnavailable", "get_backend"]
