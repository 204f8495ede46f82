"""Convolutions in float32 on a CPU: gradients of weights, PyTorch's and of the padded input; ways out of a stem.

    python benchmarks/convolutions.py

Shapes are those of the networks planned here, two patches a batch, one thread; medians of eleven. On processors with
AVX-512 both take as long, and `pipeline.network.convolutions` leaves the convolutions alone.
"""

import statistics
import time
from collections.abc import Callable

import torch

from pipeline.network.convolutions import PaddedForWeights, convolutions

SHAPES = [
    (16, 16, (32, 48, 32), 1),
    (32, 16, (16, 24, 16), 1),
    (32, 32, (16, 24, 16), 1),
    (64, 32, (16, 24, 16), 1),
    (32, 64, (16, 24, 16), 2),
    (64, 64, (8, 12, 8), 1),
    (128, 64, (8, 12, 8), 1),
]
"""Channels in and out, voxels, and stride."""

STEMS = [(16, 2, (16, 24, 16)), (16, 3, (16, 24, 16)), (32, 3, (16, 24, 16))]
"""Channels in, classes and voxels of the transposed convolution out of a stem."""


def main() -> None:
    """Print milliseconds of both and the ratio."""
    torch.set_num_threads(1)
    print(f"{torch.backends.cpu.get_cpu_capability()}: channels, voxels, stride; ms of PyTorch, padded, ratio")
    for inputs, outputs, size, stride in SHAPES:
        window = torch.randn(2, inputs, *size)
        weight = torch.randn(outputs, inputs, 3, 3, 3, requires_grad=True)
        geometry = ((stride,) * 3, (1, 1, 1), (1, 1, 1))
        plain = gradients_of_weights(lambda w=window, k=weight, g=geometry: torch.conv3d(w, k, None, *g), weight)
        padded = gradients_of_weights(
            lambda w=window, k=weight, g=geometry: PaddedForWeights.apply(w, k, None, *g), weight
        )
        shape = f"{inputs:3} {outputs:3}  {' x '.join(map(str, size)):12}  {stride}"
        print(f"{shape}  {plain:6.1f} {padded:6.1f} {plain / padded:5.2f}")
    print("out of a stem: channels, classes, voxels; ms of PyTorch, as a product of matrices, ratio")
    for inputs, outputs, size in STEMS:
        window = torch.randn(2, inputs, *size, requires_grad=True)
        layer = torch.nn.ConvTranspose3d(inputs, outputs, 2, 2)
        plain = milliseconds(lambda w=window, out=layer: out(w).sum().backward())
        with convolutions(window, "float32"):
            product = milliseconds(lambda w=window, out=layer: out(w).sum().backward())
        shape = f"{inputs:3} {outputs:3}  {' x '.join(map(str, size)):12}"
        print(f"{shape}  {plain:6.1f} {product:6.1f} {plain / product:5.2f}")


def gradients_of_weights(convolve: Callable[[], torch.Tensor], weight: torch.Tensor) -> float:
    """Return the milliseconds of the gradients of the weights alone."""
    result = convolve()
    gradient = torch.randn_like(result)
    return milliseconds(lambda: torch.autograd.grad(result, weight, gradient, retain_graph=True))


def milliseconds(work: Callable[[], object]) -> float:
    """Return the median of eleven times after a first one."""
    taken = []
    for _ in range(12):
        start = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken[1:])


if __name__ == "__main__":
    main()
