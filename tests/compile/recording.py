"""What a call of the public functions would launch, recorded without a device."""

from kernels.device import launching


def launches(function, *arguments, **options):
    """[(kernel, its arguments)] of a call with NumPy arrays."""
    with launching.recorded() as calls:
        function(*arguments, **options)
    return [(call.kernel, call.arguments) for call in calls]
