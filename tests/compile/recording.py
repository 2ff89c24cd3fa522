"""What a call of the public functions would launch, recorded without a device."""

from kernels import cuda_api


def launches(function, *arguments, **options):
    """[(kernel, its arguments)] of a call with NumPy arrays."""
    with cuda_api.recorded() as calls:
        function(*arguments, **options)
    return [(call.kernel, call.arguments) for call in calls]
