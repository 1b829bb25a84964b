"""Residual networks in Keras, layer for layer those of hvd_imagenet.torch.models.

Layers have torchvision's names (hyphens for dots on Keras' torch backend), images are (images, height, width, 3).
Where the stride is 2, PyTorch pads both sides alike and Keras' "same" only the end of an even side, so the padding is a
layer of its own there.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from hvd_imagenet.core.initializers import initial_parameters
from hvd_imagenet.keras.variables import copy_into, parameter_variables, pytorch_shape

# Called with name= and dtype=.
BatchNormFactory = Callable[..., layers.Layer]


def plain_batch_norm(**options: Any) -> layers.Layer:
    """Keras' own batch normalisation with the paper's factor (0.9) and ε (1e-5).

    Args:
        **options: name and dtype.

    Returns:
        The layer.

    Example:
        >>> plain_batch_norm(name="bn1").momentum
        0.9
    """
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, **options)


def _layer_name(name: str) -> str:
    # Keras' torch backend registers variables under their layers' names, and PyTorch's modules allow no dots there.
    return name.replace(".", "-") if keras.backend.backend() == "torch" else name


class _Builder:
    """Makes the layers of one network."""

    def __init__(self, batch_norm: BatchNormFactory | None, dtype: str | None) -> None:
        self.batch_norm = batch_norm or plain_batch_norm
        self.dtype = dtype

    def convolution(self, x: Any, name: str, outputs: int, kernel: int, stride: int = 1) -> Any:
        if stride > 1 and kernel > 1:
            x = layers.ZeroPadding2D(kernel // 2, dtype=self.dtype, name=_layer_name(f"{name}.padding"))(x)
        padding = "same" if stride == 1 else "valid"
        return layers.Conv2D(
            outputs,
            kernel,
            stride,
            padding,
            use_bias=False,
            dtype=self.dtype,
            name=_layer_name(name),
            data_format="channels_last",
        )(x)

    def norm(self, x: Any, name: str) -> Any:
        return self.batch_norm(name=_layer_name(name), dtype=self.dtype)(x)

    def relu(self, x: Any, name: str) -> Any:
        return layers.ReLU(dtype=self.dtype, name=_layer_name(name))(x)

    def shortcut(self, x: Any, name: str, outputs: int, stride: int) -> Any:
        if stride == 1 and x.shape[-1] == outputs:
            return x
        return self.norm(self.convolution(x, f"{name}.downsample.0", outputs, 1, stride), f"{name}.downsample.1")

    def join(self, x: Any, shortcut: Any, name: str) -> Any:
        x = layers.Add(dtype=self.dtype, name=_layer_name(f"{name}.add"))([x, shortcut])
        return self.relu(x, f"{name}.relu")

    def basic_block(self, x: Any, name: str, width: int, stride: int) -> Any:
        """Two 3×3 convolutions and a shortcut."""
        shortcut = self.shortcut(x, name, width, stride)
        x = self.norm(self.convolution(x, f"{name}.conv1", width, 3, stride), f"{name}.bn1")
        x = self.norm(self.convolution(self.relu(x, f"{name}.relu1"), f"{name}.conv2", width, 3), f"{name}.bn2")
        return self.join(x, shortcut, name)

    def bottleneck(self, x: Any, name: str, width: int, stride: int) -> Any:
        """1×1, 3×3 (with the stride) and 1×1 convolutions and a shortcut."""
        shortcut = self.shortcut(x, name, 4 * width, stride)
        x = self.relu(self.norm(self.convolution(x, f"{name}.conv1", width, 1), f"{name}.bn1"), f"{name}.relu1")
        x = self.norm(self.convolution(x, f"{name}.conv2", width, 3, stride), f"{name}.bn2")
        x = self.convolution(self.relu(x, f"{name}.relu2"), f"{name}.conv3", 4 * width, 1)
        return self.join(self.norm(x, f"{name}.bn3"), shortcut, name)

    def stem(self, x: Any, width: int, small_images: bool) -> Any:
        kernel, stride = (3, 1) if small_images else (7, 2)
        x = self.relu(self.norm(self.convolution(x, "conv1", width, kernel, stride), "bn1"), "relu")
        if small_images:
            return x
        # After a ReLU zeros never win over an image's own values, as PyTorch's padding with −∞.
        x = layers.ZeroPadding2D(1, dtype=self.dtype, name=_layer_name("maxpool.padding"))(x)
        return layers.MaxPooling2D(3, 2, dtype=self.dtype, name="maxpool", data_format="channels_last")(x)


def _resnet(
    name: str,
    depths: Sequence[int],
    num_classes: int,
    batch_norm: BatchNormFactory | None,
    dtype: str | None,
    width: int | None = None,
) -> keras.Model:
    small_images = len(depths) == 3
    builder = _Builder(batch_norm, dtype)
    block = builder.basic_block if small_images else builder.bottleneck
    width = width or (16 if small_images else 64)
    images = keras.Input(
        (None, None, 3), dtype=keras.DTypePolicy(dtype).compute_dtype if dtype else None, name="images"
    )
    x = builder.stem(images, width, small_images)
    for stage, depth in enumerate(depths):
        for index in range(depth):
            x = block(x, f"layer{stage + 1}.{index}", width * 2**stage, 2 if stage > 0 and index == 0 else 1)
    x = layers.GlobalAveragePooling2D(dtype=dtype, name="avgpool", data_format="channels_last")(x)
    return keras.Model(images, layers.Dense(num_classes, dtype=dtype, name="fc")(x), name=name)


def resnet50(
    num_classes: int = 1000, batch_norm: BatchNormFactory | None = None, dtype: str | None = None
) -> keras.Model:
    """ResNet-50, with the stride on the 3×3 convolutions (section 5.1).

    Args:
        num_classes: outputs.
        batch_norm: makes a layer from name and dtype; plain_batch_norm if None.
        dtype: dtype or policy of all layers; Keras' global one if None.

    Returns:
        (images, height, width, 3) → (images, num_classes) logits, with Keras' default weights; see initialise.

    Example:
        >>> import math
        >>> sum(math.prod(weight.shape) for weight in resnet50().trainable_weights)
        25557032
    """
    return _resnet("resnet50", (3, 4, 6, 3), num_classes, batch_norm, dtype)


def resnet101(
    num_classes: int = 1000, batch_norm: BatchNormFactory | None = None, dtype: str | None = None
) -> keras.Model:
    """ResNet-101, with the stride on the 3×3 convolutions (section 5.1).

    Args:
        num_classes: outputs.
        batch_norm: makes a layer from name and dtype; plain_batch_norm if None.
        dtype: dtype or policy of all layers; Keras' global one if None.

    Returns:
        (images, height, width, 3) → (images, num_classes) logits, with Keras' default weights; see initialise.

    Example:
        >>> import math
        >>> sum(math.prod(weight.shape) for weight in resnet101().trainable_weights)
        44549160
    """
    return _resnet("resnet101", (3, 4, 23, 3), num_classes, batch_norm, dtype)


def resnet20(
    num_classes: int = 10, batch_norm: BatchNormFactory | None = None, dtype: str | None = None
) -> keras.Model:
    """ResNet-20 for 32-pixel images (He et al. 2016, section 4.2), with projection shortcuts.

    Args:
        num_classes: outputs.
        batch_norm: makes a layer from name and dtype; plain_batch_norm if None.
        dtype: dtype or policy of all layers; Keras' global one if None.

    Returns:
        (images, height, width, 3) → (images, num_classes) logits, with Keras' default weights; see initialise.

    Example:
        >>> import math
        >>> sum(math.prod(weight.shape) for weight in resnet20().trainable_weights)
        272474
    """
    return _resnet("resnet20", (3, 3, 3), num_classes, batch_norm, dtype)


def resnet20x4(
    num_classes: int = 10, batch_norm: BatchNormFactory | None = None, dtype: str | None = None
) -> keras.Model:
    """ResNet-20 with four times the channels: 64, 128 and 256.

    Args:
        num_classes: outputs.
        batch_norm: makes a layer from name and dtype; plain_batch_norm if None.
        dtype: dtype or policy of all layers; Keras' global one if None.

    Returns:
        (images, height, width, 3) → (images, num_classes) logits, with Keras' default weights; see initialise.

    Example:
        >>> import math
        >>> sum(math.prod(weight.shape) for weight in resnet20x4().trainable_weights)
        4327754
    """
    return _resnet("resnet20x4", (3, 3, 3), num_classes, batch_norm, dtype, width=64)


def resnet8(num_classes: int = 10, batch_norm: BatchNormFactory | None = None, dtype: str | None = None) -> keras.Model:
    """ResNet-8 for 32-pixel images: one block a stage.

    Args:
        num_classes: outputs.
        batch_norm: makes a layer from name and dtype; plain_batch_norm if None.
        dtype: dtype or policy of all layers; Keras' global one if None.

    Returns:
        (images, height, width, 3) → (images, num_classes) logits, with Keras' default weights; see initialise.

    Example:
        >>> import math
        >>> sum(math.prod(weight.shape) for weight in resnet8().trainable_weights)
        78042
    """
    return _resnet("resnet8", (1, 1, 1), num_classes, batch_norm, dtype)


def resnet8_narrow(
    num_classes: int = 10, batch_norm: BatchNormFactory | None = None, dtype: str | None = None
) -> keras.Model:
    """ResNet-8 with half the channels, 8, 16 and 32, for studies of many runs.

    Args:
        num_classes: outputs.
        batch_norm: makes a layer from name and dtype; plain_batch_norm if None.
        dtype: dtype or policy of all layers; Keras' global one if None.

    Returns:
        (images, height, width, 3) → (images, num_classes) logits, with Keras' default weights; see initialise.

    Example:
        >>> import math
        >>> sum(math.prod(weight.shape) for weight in resnet8_narrow().trainable_weights)
        19954
    """
    return _resnet("resnet8_narrow", (1, 1, 1), num_classes, batch_norm, dtype, width=8)


MODELS = {make.__name__: make for make in (resnet50, resnet101, resnet20, resnet20x4, resnet8, resnet8_narrow)}


def initialise(model: keras.Model, seed: int, zero_last_gamma: bool = True) -> None:
    """Sets the initial weights of section 5.1, a function of (seed, parameter name) alone, as in PyTorch.

    Args:
        model: one of these; changed in place.
        seed: of the run.
        zero_last_gamma: γ = 0 in the last batch normalisation of every residual block.

    Example:
        >>> model = resnet8()
        >>> initialise(model, seed=0)
        >>> model.get_layer("layer1.0.bn2").gamma.numpy().any()
        np.False_
    """
    parameters = parameter_variables(model)
    shapes = {name: pytorch_shape(each) for name, each in parameters.items()}
    copy_into(parameters, initial_parameters(shapes, seed, zero_last_gamma), "initial weights")
