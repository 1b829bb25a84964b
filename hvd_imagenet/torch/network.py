"""The network of a run: normalisation of the pixels, the model, layouts and dtypes."""

import torch
from torch import Tensor, nn

from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.torch import models
from hvd_imagenet.torch.batch_norm import convert_batch_norm

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


class Network(nn.Module):
    """Takes pixels as they were decoded, so that no float image is ever made on the host.

    Args:
        model: (images, 3, height, width) → logits.
        recipe: its per-colour mean and standard deviation.
        channels_last: the layout in which the model gets the images.
        amp_dtype: of automatic mixed precision, or None.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, channels_last: bool, amp_dtype: torch.dtype | None) -> None:
        super().__init__()
        self.model = model
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.amp_dtype = amp_dtype
        dtype = next(model.parameters()).dtype
        for name, values in (("mean", recipe.pixel_mean), ("std", recipe.pixel_std)):
            self.register_buffer(name, torch.tensor(values, dtype=dtype).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(images, height, width, 3) uint8 → (images, classes) logits in the model's dtype."""
        images = (pixels.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std
        images = images.contiguous(memory_format=self.layout)
        with torch.autocast(pixels.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            logits = self.model(images)
        return logits.to(self.mean.dtype)


def build_network(recipe: Recipe, config: RunConfig, classes: int, local_workers: int, device: torch.device) -> Network:
    """The network of a run with its initial weights.

    Args:
        recipe: model, seed and normalisation.
        config: dtype, layout and mixed precision.
        classes: outputs.
        local_workers: virtual workers that this process runs in one iteration.
        device: where it computes.

    Returns:
        The network, in training mode, not yet compiled.

    Example:
        >>> from pathlib import Path
        >>> recipe = Recipe(model="resnet8", minibatch=32, image_size_px=32, validation_resize_px=32)
        >>> network = build_network(recipe, RunConfig(Path("d")), 10, 1, torch.device("cpu"))
        >>> network(torch.zeros(32, 32, 32, 3, dtype=torch.uint8)).shape
        torch.Size([32, 10])
    """
    model = models.MODELS[recipe.model](num_classes=classes).to(DTYPES[config.dtype])
    models.initialise(model, recipe.seed, recipe.zero_last_gamma)
    convert_batch_norm(model, recipe.per_worker, local_workers)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)
    amp_dtype = None if config.amp_dtype is None else DTYPES[config.amp_dtype]
    return Network(model, recipe, config.channels_last, amp_dtype).to(device)
