"""The named recipes."""

import dataclasses
import difflib
from collections.abc import Callable

from hvd_imagenet.recipe import MODELS, OPTIMIZERS, SCHEDULES, WARMUPS, Recipe

__all__ = ["MODELS", "OPTIMIZERS", "RECIPES", "SCHEDULES", "WARMUPS", "Recipe", "named", "scaled_decay_epochs"]


def resnet50_1hour() -> Recipe:
    """The paper's main run: ResNet-50, 8,192 images an iteration, 90 epochs (sections 5.1 and 5.2)."""
    return Recipe()


def resnet50_256() -> Recipe:
    """The paper's reference: the same at the minibatch of 256, without warmup."""
    return Recipe(minibatch=256)


def resnet101_1hour() -> Recipe:
    """The paper's second network at 8,192 images an iteration (table 2c)."""
    return Recipe(model="resnet101")


def digits() -> Recipe:
    """Scanned digits, for two cores and a minute: ResNet-8, four virtual workers of 16 images.

    γ = 1 throughout: with γ = 0 all three blocks begin as identities, and 360 iterations are few to wake them.
    """
    return Recipe(
        model="resnet8",
        minibatch=64,
        per_worker=16,
        epochs=16,
        reference_lr=0.05,
        reference_minibatch=16,
        warmup_epochs=2,
        decay_epochs=(8, 12, 14),
        zero_last_gamma=False,
        image_size_px=32,
        validation_resize_px=32,
        area_range=(0.6, 1.0),
        horizontal_flip=False,
        pixel_mean=(127.5, 127.5, 127.5),
        pixel_std=(63.75, 63.75, 63.75),
    )


def cluttered_digits() -> Recipe:
    """Of benchmarks/minibatch_study.py: a fifth of the paper's schedule, a narrow ResNet-8, virtual workers of 16."""
    return Recipe(
        model="resnet8_narrow",
        minibatch=64,
        per_worker=16,
        epochs=18,
        reference_lr=0.4,
        reference_minibatch=64,
        warmup_epochs=1,
        decay_epochs=(6, 12, 16),
        image_size_px=16,
        validation_resize_px=16,
        area_range=(0.8, 1.0),
        horizontal_flip=False,
        pixel_mean=(127.5, 127.5, 127.5),
        pixel_std=(63.75, 63.75, 63.75),
    )


def shapes() -> Recipe:
    """Procedural shapes of any number and size: ResNet-20, eight virtual workers of 32."""
    return Recipe(
        model="resnet20",
        minibatch=256,
        per_worker=32,
        epochs=30,
        reference_minibatch=64,
        warmup_epochs=2,
        decay_epochs=(10, 20, 27),
        image_size_px=32,
        validation_resize_px=32,
        area_range=(0.4, 1.0),
        pixel_mean=(127.5, 127.5, 127.5),
        pixel_std=(63.75, 63.75, 63.75),
    )


def resnet20_cifar() -> Recipe:
    """CIFAR-10 or CIFAR-100 on ResNet-20, after He et al. 2016 (section 4.2): two workers of 64, 64,000 iterations.

    Epochs 82, 123 and 164 of 50,000 images are its iterations 32,000, 48,000 and 64,000. Two things differ: crops are
    of 50 to 100 % of the image, where the paper pads by 4 pixels, and shortcuts of changed width are projections.
    """
    return Recipe(
        model="resnet20",
        minibatch=128,
        per_worker=64,
        epochs=164,
        reference_minibatch=128,
        decay_epochs=(82, 123),
        nesterov=False,
        zero_last_gamma=False,
        image_size_px=32,
        validation_resize_px=32,
        area_range=(0.5, 1.0),
        pixel_mean=(125.3, 123.0, 113.9),
        pixel_std=(63.0, 62.1, 66.7),
    )


def resnet20x4_cifar() -> Recipe:
    """The same four times as wide, with the schedule and weight decay of Zagoruyko & Komodakis 2016 (section 3)."""
    return dataclasses.replace(
        resnet20_cifar(),
        model="resnet20x4",
        epochs=200,
        decay_epochs=(60, 120, 160),
        decay_factor=0.2,
        nesterov=True,
        weight_decay=5e-4,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    make.__name__: make
    for make in (
        resnet50_1hour,
        resnet50_256,
        resnet101_1hour,
        digits,
        cluttered_digits,
        shapes,
        resnet20_cifar,
        resnet20x4_cifar,
    )
}


def named(name: str) -> Recipe:
    """The recipe of that name.

    Args:
        name: one of RECIPES.

    Returns:
        The recipe.

    Raises:
        ValueError: there is none; the message has the nearest names.

    Example:
        >>> named("digit")
        Traceback (most recent call last):
        ...
        ValueError: recipe must be one of cluttered_digits, digits, resnet101_1hour, resnet20_cifar, \
resnet20x4_cifar, resnet50_1hour, resnet50_256, shapes, not 'digit'; nearest: digits, cluttered_digits
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.4)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ValueError(f"recipe must be one of {', '.join(sorted(RECIPES))}, not {name!r}{hint}")
    return RECIPES[name]()


def scaled_decay_epochs(recipe: Recipe, epochs: float) -> tuple[float, ...]:
    """The recipe's steps at the same fractions of a run of another length (30, 60 and 80 of 90).

    Args:
        recipe: whose decay_epochs to scale.
        epochs: the new length.

    Returns:
        The new decay_epochs.

    Example:
        >>> scaled_decay_epochs(Recipe(), 45)
        (15.0, 30.0, 40.0)
    """
    return tuple(boundary * epochs / recipe.epochs for boundary in recipe.decay_epochs)
