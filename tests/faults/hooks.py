"""`python hooks.py PLAN WORDS…`: runs `hvd_imagenet WORDS…` with things that happen to it at chosen iterations.

PLAN is JSON: "signals", a list of [rank, action, iteration, name], a signal sent to the process itself when it begins
the action (iteration null: whatever it is); "after", a path for which a SIGKILL waits, such as a checkpoint's, which is
written beside the training; "poison", a list of [rank, iteration, what, factor], the factor of what ("loss": loss and
gradient, "gradient": the gradient alone) that the rank computes then; "images", a folder for the log of the images that
each rank has taken; "words", a list of [rank, words] that this rank alone is given in addition. The program itself has
no such switches: they hang on its heartbeat.
"""

import json
import os
import signal
import sys
from collections import deque
from pathlib import Path
from typing import Any

from waiting import wait_for

from hvd_imagenet import heartbeat
from hvd_imagenet.launcher.environment import launched_rank

RANK = launched_rank() or 0


class Hooks:
    """What the plan holds for this rank."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.signals = [each[1:] for each in plan.get("signals", []) if each[0] == RANK]
        self.poison = {each[1]: each[2:] for each in plan.get("poison", []) if each[0] == RANK}
        self.images = plan.get("images")
        self.after = plan.get("after")
        self.iteration = -1
        self.original = heartbeat.beat
        self.factors = {"loss": 1.0, "gradient": 1.0}
        self.on_factors: Any = lambda: None

    def beat(self, action: str, iteration: int | None = None) -> None:
        self.original(action, iteration)
        if iteration is not None:
            self.iteration = iteration
        if action.startswith("computing"):
            what, factor = self.poison.get(self.iteration, ("loss", 1.0))
            self.factors = {"loss": 1.0, "gradient": 1.0, what: float(factor)}
            self.on_factors()
        for each in self.signals:
            wanted, at, name = each
            if action.startswith(wanted) and at in (None, self.iteration):
                self.signals.remove(each)
                if name == "SIGKILL" and self.after is not None:
                    wait_for(Path(self.after))
                os.kill(os.getpid(), getattr(signal, name))
                return


def log_images(hooks: Hooks) -> None:
    """Writes a line for every batch that a rank takes: its iteration, and the images in the order of the stream."""
    from hvd_imagenet.data.reader import Reader
    from hvd_imagenet.data.transforms import Augmentation

    original = Reader.batches

    def batches(self: Any, requests: Any) -> Any:
        if not isinstance(self._crop, Augmentation):
            yield from original(self, requests)
            return
        asked: deque[Any] = deque()

        def noted() -> Any:
            for epochs, images in requests:
                asked.append((epochs.tolist(), images.tolist()))
                yield epochs, images

        with (Path(hooks.images) / f"rank-{RANK}.jsonl").open("a") as log:
            for pixels, labels in original(self, noted()):
                epochs, images = asked.popleft()
                assert labels.tolist() == self._images.labels[images].tolist()
                print(json.dumps([hooks.iteration, epochs, images]), file=log, flush=True)
                yield pixels, labels

    Reader.batches = batches  # type: ignore[method-assign]


def poison_torch(hooks: Hooks) -> None:
    from hvd_imagenet.torch import evaluation

    original = evaluation.sums_of_batch

    def sums_of_batch(*arguments: Any, **options: Any) -> Any:
        loss, sums = original(*arguments, **options)
        sums = sums.clone()
        sums[1] *= hooks.factors["loss"]
        return loss * hooks.factors["loss"] * hooks.factors["gradient"], sums

    evaluation.sums_of_batch = sums_of_batch


def poison_keras(hooks: Hooks) -> None:
    import tensorflow as tf

    from hvd_imagenet.keras import network

    original = network.sums_of_batch
    factors = {name: tf.Variable(1.0, dtype=tf.float64, trainable=False) for name in hooks.factors}

    def assign() -> None:
        for name, variable in factors.items():
            variable.assign(hooks.factors[name])

    def sums_of_batch(*arguments: Any, **options: Any) -> Any:
        loss, sums = original(*arguments, **options)
        factor = tf.cast(factors["loss"] * factors["gradient"], loss.dtype)
        one = tf.ones((), tf.float64)
        return loss * factor, sums * tf.stack([one, factors["loss"] * one, one, one])

    hooks.on_factors = assign
    network.sums_of_batch = sums_of_batch


def main(plan: str, words: list[str]) -> int:
    hooks = Hooks(json.loads(plan))
    heartbeat.beat = hooks.beat
    from hvd_imagenet import cli

    if hooks.images:
        Path(hooks.images).mkdir(parents=True, exist_ok=True)
        log_images(hooks)
    if "poison" in json.loads(plan):
        (poison_keras if "keras" in words else poison_torch)(hooks)
    for rank, more in json.loads(plan).get("words", []):
        words += more if rank == RANK else []
    return cli.main(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
