"""Validation that counts every image exactly once, whatever the number of ranks."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from hvd_imagenet.communicator import share
from hvd_imagenet.core.metrics import Sums
from hvd_imagenet.core.minibatch import positive_integer
from hvd_imagenet.keras.communication import HorovodCommunicator
from hvd_imagenet.keras.ema import ModelEma
from hvd_imagenet.keras.evaluation import evaluate
from hvd_imagenet.keras.layers import average_over_processes, running_averages

# Image numbers → batches of images and labels.
Batches = Callable[[np.ndarray], Iterable[tuple[Any, Any]]]


class ExactValidation(keras.callbacks.Callback):
    """Loss, top-1 and top-5 error of a classifier over all validation images, shared out among the ranks.

    Every rank takes a contiguous part of the images, the parts as equal as they can be, and sums are added up: no
    image is padded, repeated or left out (a sampler that pads counts 176 images of ImageNet twice at 256 ranks).
    Before it, the running averages of batch normalisation are averaged over all ranks. At the end of every epoch
    logs get val_loss, val_error and val_error_top5 (in percent); leave fit's validation_data out.

    Args:
        images: all of them, the same on every rank: an array or a sequence that takes an array of indices.
        labels: (images,) integers.
        batch_size: images in one step.
        from_logits: False if the model ends in a softmax.
        ema: validated in place of the model's own weights, if given.

    Raises:
        ValueError: as many labels as images are needed.

    Example:
        >>> callback = ExactValidation(np.zeros((3, 2)), np.array([0, 1, 1]), batch_size=2)
        >>> [len(labels) for _, labels in callback.batches(np.arange(3))]
        [2, 1]
    """

    def __init__(
        self, images: Any, labels: Any, batch_size: int = 64, from_logits: bool = True, ema: ModelEma | None = None
    ) -> None:
        super().__init__()
        positive_integer("batch_size", batch_size)
        if len(images) != len(labels):
            raise ValueError(f"labels must be as many as images ({len(images)}), not {len(labels)}")
        labels = np.asarray(labels)

        def batches(ids: np.ndarray) -> Iterable[tuple[Any, Any]]:
            for start in range(0, len(ids), batch_size):
                part = ids[start : start + batch_size]
                yield images[part], labels[part]

        self.batches: Batches = batches
        self.count = len(labels)
        self.from_logits = from_logits
        self.ema = ema
        self.share_of_workers: float | None = None
        """Of the virtual workers that this rank runs; 1 / ranks if None."""
        self._last: tuple[int, Sums] | None = None

    def validate(self) -> Sums:
        """Validates, or gives the result again if no step was made since; call it on all ranks together.

        Returns:
            The sums over all validation images.
        """
        iteration = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        if self._last is None or self._last[0] != iteration:
            self._last = (iteration, self._validate())
        return self._last[1]

    def _validate(self) -> Sums:
        communicator = HorovodCommunicator()
        self.average_batch_norm()
        if self.ema is not None:
            self.ema.swap()
        mine = self.batches(share(self.count, communicator))
        try:
            return evaluate(self.model, mine, communicator, self.from_logits)
        finally:
            if self.ema is not None:
                self.ema.swap()

    def average_batch_norm(self) -> None:
        """Gives all ranks the same running averages; call it on all ranks together."""
        communicator = HorovodCommunicator()
        averages = running_averages(self.model)
        if self.ema is not None:
            averages |= {f"ema.{name}": variable for name, variable in self.ema.averages.items()}
        part = 1.0 / communicator.size if self.share_of_workers is None else self.share_of_workers
        average_over_processes(averages, part, communicator)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forgets what was validated before: weights may have been loaded since."""
        self._last = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the results to the epoch's logs."""
        sums = self.validate()
        if logs is not None:
            logs |= {"val_loss": sums.mean_loss, "val_error": sums.error, "val_error_top5": sums.error_top5}
