"""The profiler of the CUDA kernels, on machines with and without a GPU.

``asked`` parses the options, ``calls`` finds the launches of nets and operators, ``facts`` gathers
what each source has to say about them, ``tables`` and ``figures`` show it. The sources: ``static``,
``simulation`` (with ``tracer`` and ``counter``), ``roofline`` and ``timed``. ``targets`` judges the
kernels by ``bounds``.
"""
