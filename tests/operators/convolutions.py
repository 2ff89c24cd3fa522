"""Cases of convolutions, and how exact each function has to be."""

from dataclasses import dataclass

from kernels.checks import Pair
from kernels.window import Window
from tests.comparison import FORWARD, GRADIENT, assert_matches_reference

TOLERANCES = {"forward": FORWARD, "gradient_input": GRADIENT, "gradient_weights": GRADIENT}
FUNCTIONS = tuple(TOLERANCES)


@dataclass(frozen=True)
class ConvolutionCase:
    """N x C x H x W maps to K channels."""

    x: tuple[int, int, int, int]
    filters: int
    kernel: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)

    def __str__(self):
        window = zip("ksd", (self.kernel, self.stride, self.dilation))
        pairs = "-".join(f"{name}{a},{b}" for name, (a, b) in window)
        return f"{'x'.join(map(str, self.x))}-to-{self.filters}-{pairs}"

    def operands(self, rng, dtype):
        output = Window(self.kernel, self.stride, self.dilation).output_size(self.x[2:])
        return {
            "x": rng.standard_normal(self.x, dtype),
            "weights": rng.standard_normal((self.filters, self.x[1], *self.kernel), dtype),
            "bias": rng.standard_normal(self.filters, dtype),
            "error": rng.standard_normal((self.x[0], self.filters, *output), dtype),
        }

    @property
    def options(self):
        return {"stride": self.stride, "dilation": self.dilation}

    def call(self, function, x, weights, bias, error):
        """The name of ``function`` and its arguments."""
        arguments = {
            "forward": (x, weights, bias),
            "gradient_input": (error, weights, self.x[2:]),
            "gradient_weights": (x, error, self.kernel),
        }[function]
        return f"convolution.{function}", *arguments

    def assert_matches_reference(self, backend, function, **operands):
        tolerance = TOLERANCES[function][str(operands["x"].dtype)]
        arguments = self.call(function, **operands)
        assert_matches_reference(backend, *arguments, **self.options, tolerance=tolerance)
