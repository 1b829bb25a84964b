"""What the layers of a ResNet have to do: parameters, operations and bytes of memory, without a framework.

A device's time of each layer follows from them by the roofline: what takes longer, its operations at the device's
peak or its bytes at the memory's bandwidth. Only shares of a measured total are taken from it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_FLOAT_BYTES = 4
_IMAGE_SIZE_PX = 224
# Passes over a layer's own activations, each read or written once. Batch normalisation reads them for the moments, and
# reads and writes them to normalise; ReLU reads and writes; a residual sum reads two and writes one.
_NORM_FORWARD, _NORM_BACKWARD = 3 + 2, 5 + 3
_SUM_FORWARD, _SUM_BACKWARD = 3, 2
# Per stage: blocks and width.
_DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
_EXPANSION = 4
NETWORKS = tuple(_DEPTHS)


@dataclass(frozen=True)
class Work:
    """What one layer has to do for one image.

    Args:
        name: torchvision's.
        tensors: elements of each of its parameters, in their order.
        forward_flops: multiplications and additions.
        backward_flops: twice as many, once for the input's gradient and once for the weights'.
        forward_bytes: read and written.
        backward_bytes: read and written.
    """

    name: str
    tensors: tuple[int, ...]
    forward_flops: float
    backward_flops: float
    forward_bytes: float
    backward_bytes: float


def layers_of(model: str, classes: int = 1000) -> tuple[Work, ...]:
    """The layers that have parameters, in the order of the forward pass.

    Args:
        model: one of NETWORKS.
        classes: outputs.

    Returns:
        One item a layer.

    Example:
        >>> sum(sum(layer.tensors) for layer in layers_of("resnet50"))
        25557032
        >>> round(sum(layer.forward_flops for layer in layers_of("resnet50")) / 2e9, 2)
        4.09
    """
    return tuple(_resnet(_DEPTHS[model], classes))


def _resnet(depths: tuple[int, ...], classes: int) -> Iterator[Work]:
    side = _IMAGE_SIZE_PX // 2
    # The first convolution has no input that needs a gradient.
    yield _convolution("conv1", 3, 64, 7, _IMAGE_SIZE_PX, side, input_gradient=False)
    yield _norm("bn1", 64, side)
    side //= 2  # max pooling
    channels = 64
    for stage, depth in enumerate(depths):
        for block in range(depth):
            halves = stage > 0 and block == 0
            yield from _bottleneck(f"layer{stage + 1}.{block}", channels, 64 * 2**stage, side, 2 if halves else 1)
            side = side // 2 if halves else side
            channels = 64 * 2**stage * _EXPANSION
    flops = 2.0 * channels * classes
    moved = _FLOAT_BYTES * (channels + classes)
    yield Work("fc", (channels * classes, classes), flops, 2 * flops, moved, 2 * moved)


def _bottleneck(name: str, inputs: int, width: int, side: int, stride: int) -> Iterator[Work]:
    after, outputs = side // stride, width * _EXPANSION
    yield _convolution(f"{name}.conv1", inputs, width, 1, side, side)
    yield _norm(f"{name}.bn1", width, side)
    yield _convolution(f"{name}.conv2", width, width, 3, side, after)
    yield _norm(f"{name}.bn2", width, after)
    yield _convolution(f"{name}.conv3", width, outputs, 1, after, after)
    yield _norm(f"{name}.bn3", outputs, after, residual=True)
    if inputs != outputs or stride != 1:
        yield _convolution(f"{name}.downsample.0", inputs, outputs, 1, side, after)
        yield _norm(f"{name}.downsample.1", outputs, after)


def _convolution(
    name: str, inputs: int, outputs: int, kernel: int, side: int, after: int, input_gradient: bool = True
) -> Work:
    weights = inputs * outputs * kernel**2
    flops = 2.0 * weights * after**2
    moved = _FLOAT_BYTES * (inputs * side**2 + outputs * after**2)
    products = 2 if input_gradient else 1
    return Work(name, (weights,), flops, products * flops, moved, products * moved)


def _norm(name: str, channels: int, side: int, residual: bool = False) -> Work:
    activations = _FLOAT_BYTES * channels * side**2
    forward = _NORM_FORWARD + (_SUM_FORWARD if residual else 0)
    backward = _NORM_BACKWARD + (_SUM_BACKWARD if residual else 0)
    return Work(name, (channels, channels), 0.0, 0.0, forward * activations, backward * activations)


def roofline_s(work: Work, flops_per_s: float, bytes_per_s: float) -> tuple[float, float]:
    """The least time of a layer for one image, forward and backward.

    Args:
        work: of the layer.
        flops_per_s: the device's peak.
        bytes_per_s: its memory's bandwidth.

    Returns:
        Seconds forward, seconds backward.

    Example:
        >>> roofline_s(Work("fc", (10,), 20.0, 40.0, 8.0, 16.0), flops_per_s=10.0, bytes_per_s=8.0)
        (2.0, 4.0)
    """
    return (
        max(work.forward_flops / flops_per_s, work.forward_bytes / bytes_per_s),
        max(work.backward_flops / flops_per_s, work.backward_bytes / bytes_per_s),
    )
