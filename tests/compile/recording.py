"""What a call of the public functions would launch, recorded without a device."""

from unittest import mock

import numpy as np

from kernels import cuda_api
from kernels.memory import cuda as memory


def launches(function, *arguments, **options):
    """[(kernel, its arguments)] of a call with NumPy arrays."""
    with mock.patch.object(memory, "empty", np.empty), cuda_api.recorded() as calls:
        function(*arguments, **options)
    return calls
