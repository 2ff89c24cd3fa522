"""Arrays of a backend: allocation and the only copies between host and device.

``empty(shape, dtype)``, ``zeros(shape, dtype)``, ``to_device(array)``, ``to_host(array)``,
``all_to_host(arrays)``, ``synchronize()``, ``on_stream(handle)``, ``release()`` and
``free_bytes()``; ``MOST_ELEMENTS`` is how many an array may have that the backend's kernels index.
The operators allocate through ``empty`` and ``zeros`` and never copy.
"""
