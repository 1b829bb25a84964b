"""Validation: every image exactly once, on any number of processes."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from hvd_imagenet.communicator import Communicator
from hvd_imagenet.core.metrics import Sums, classification_sums
from hvd_imagenet.data.reader import Batch, Reader

_BATCH_IMAGES = 64


def evaluate(
    model: keras.Model, batches: Iterable[tuple[Any, Any]], communicator: Communicator, from_logits: bool = True
) -> Sums:
    """Loss and errors over the images of all processes; call it on all of them together.

    Args:
        model: images → (images, classes); its batch normalisation averages must be the same on all processes.
        batches: images and labels of this process; there may be none.
        communicator: the job's.
        from_logits: False if the model ends in a softmax.

    Returns:
        The sums over all processes.

    Example:
        >>> from hvd_imagenet.communicator import SingleProcess
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Activation("linear")])
        >>> evaluate(model, [(np.eye(2, dtype="float32"), np.array([0, 0]))], SingleProcess()).error
        50.0
    """
    total = Sums()
    for images, labels in batches:
        outputs = np.asarray(model.predict_on_batch(images))
        total += classification_sums(outputs, np.asarray(labels).reshape(-1).astype(np.int64), from_logits)
    values = [total.images, total.loss, total.correct, total.correct_top5]
    return Sums(*communicator.sum(np.array(values)).tolist())


def validation_batches(reader: Reader, ids: np.ndarray) -> Iterable[Batch]:
    """Images that are decoded as they are needed.

    Args:
        reader: of the validation images.
        ids: their numbers, int64.

    Returns:
        Pixels and labels, 64 images at most in each.
    """
    parts = np.split(ids, range(_BATCH_IMAGES, len(ids), _BATCH_IMAGES))
    return reader.batches((np.zeros_like(part), part) for part in parts if len(part))
