"""Residual networks: ResNet-50 and -101 as the paper has them, narrow to wide ResNet-8 and -20 for small images.

Parameter names and layouts are torchvision's. In a bottleneck the stride is on the 3×3 convolution (section 5.1,
after fb.resnet.torch), not on the first 1×1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hvd_imagenet.core.initializers import initial_parameters

_EPSILON = 1e-5
_MOMENTUM = 0.1  # r ← 0.9·r + 0.1·statistic, in PyTorch's convention


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON, momentum=_MOMENTUM)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_convolution(inputs, outputs, 1, stride), _batch_norm(outputs))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, width, 3, stride)
        self.bn1 = _batch_norm(width)
        self.conv2 = _convolution(width, width, 3)
        self.bn2 = _batch_norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(images, inputs, height, width) → (images, width, height/stride, width/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """1×1, 3×3 (with the stride) and 1×1 convolutions and a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = _convolution(inputs, width, 1)
        self.bn1 = _batch_norm(width)
        self.conv2 = _convolution(width, width, 3, stride)
        self.bn2 = _batch_norm(width)
        self.conv3 = _convolution(width, outputs, 1)
        self.bn3 = _batch_norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(images, inputs, height, width) → (images, 4·width, height/stride, width/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet(nn.Module):
    """A residual network.

    Args:
        block: BasicBlock or Bottleneck.
        depths: blocks of every stage; all but the first stage halve height and width.
        width: channels of the first stage's blocks, doubled in every further one.
        num_classes: outputs.
        small_images: begin with one 3×3 convolution (32 pixels) in place of 7×7, stride 2, and pooling (224 pixels).
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        width: int,
        num_classes: int,
        small_images: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = _convolution(3, width, 3) if small_images else _convolution(3, width, 7, stride=2)
        self.bn1 = _batch_norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small_images else nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = len(depths)
        channels = width
        for stage, depth in enumerate(depths):
            blocks = []
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(block(channels, width * 2**stage, stride))
                channels = width * 2**stage * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(images, 3, height, width) → (images, num_classes) logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet50(num_classes: int = 1000) -> ResNet:
    """ResNet-50.

    Args:
        num_classes: outputs.

    Returns:
        A network with PyTorch's default weights; see initialise.

    Example:
        >>> sum(parameter.numel() for parameter in resnet50().parameters())
        25557032
    """
    return ResNet(Bottleneck, (3, 4, 6, 3), 64, num_classes)


def resnet101(num_classes: int = 1000) -> ResNet:
    """ResNet-101.

    Args:
        num_classes: outputs.

    Returns:
        A network with PyTorch's default weights; see initialise.

    Example:
        >>> sum(parameter.numel() for parameter in resnet101().parameters())
        44549160
    """
    return ResNet(Bottleneck, (3, 4, 23, 3), 64, num_classes)


def resnet20(num_classes: int = 10) -> ResNet:
    """ResNet-20 for 32-pixel images (He et al. 2016, section 4.2), with projection shortcuts.

    Args:
        num_classes: outputs.

    Returns:
        A network with PyTorch's default weights; see initialise.

    Example:
        >>> sum(parameter.numel() for parameter in resnet20().parameters())
        272474
    """
    return ResNet(BasicBlock, (3, 3, 3), 16, num_classes, small_images=True)


def resnet20x4(num_classes: int = 10) -> ResNet:
    """ResNet-20 with four times the channels: 64, 128 and 256.

    Args:
        num_classes: outputs.

    Returns:
        A network with PyTorch's default weights; see initialise.

    Example:
        >>> sum(parameter.numel() for parameter in resnet20x4().parameters())
        4327754
    """
    return ResNet(BasicBlock, (3, 3, 3), 64, num_classes, small_images=True)


def resnet8(num_classes: int = 10) -> ResNet:
    """ResNet-8 for 32-pixel images: one block a stage.

    Args:
        num_classes: outputs.

    Returns:
        A network with PyTorch's default weights; see initialise.

    Example:
        >>> sum(parameter.numel() for parameter in resnet8().parameters())
        78042
    """
    return ResNet(BasicBlock, (1, 1, 1), 16, num_classes, small_images=True)


def resnet8_narrow(num_classes: int = 10) -> ResNet:
    """ResNet-8 with half the channels, 8, 16 and 32, for studies of many runs.

    Args:
        num_classes: outputs.

    Returns:
        A network with PyTorch's default weights; see initialise.

    Example:
        >>> sum(parameter.numel() for parameter in resnet8_narrow().parameters())
        19954
    """
    return ResNet(BasicBlock, (1, 1, 1), 8, num_classes, small_images=True)


MODELS = {make.__name__: make for make in (resnet50, resnet101, resnet20, resnet20x4, resnet8, resnet8_narrow)}


def initialise(model: nn.Module, seed: int, zero_last_gamma: bool = True) -> None:
    """Sets the initial weights of section 5.1, a function of (seed, parameter name) alone.

    Args:
        model: with torchvision's parameter names; changed in place.
        seed: of the run.
        zero_last_gamma: γ = 0 in the last batch normalisation of every residual block.

    Example:
        >>> model = resnet8()
        >>> initialise(model, seed=0)
        >>> bool((model.layer1[0].bn2.weight == 0).all())
        True
    """
    parameters = dict(model.named_parameters())
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    values = initial_parameters(shapes, seed, zero_last_gamma)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(values[name]))
