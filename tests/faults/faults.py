"""What can be injected, WHAT of injector.py.

Of a process: kill, stop, gil, slow, skip-collective, SIGTERM, SIGUSR1. Of the iteration that it computes: raise, nan,
nan-activations (and so running averages), nan-average (of the weights), inf (of the gradient alone), steep, over-fp16.
Of the checkpoint that rank 0 writes: enospc, read-only, kill-unnamed, slow-write.
"""

import ctypes
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

SLOW_S = 10.0
SLOW_WRITE_S = 2.0
HAPPENS_WITHIN_S = 60.0


def hold_gil() -> None:
    ctypes.PyDLL(None).sleep(3600)  # PyDLL keeps the interpreter's lock during the call


def skip_collective() -> None:
    """Leaves out the next asynchronous allreduce of PyTorch that is called by its public name."""
    import horovod.torch as hvd

    allreduce, synchronize, skipped = hvd.allreduce_async_, hvd.synchronize, object()

    def skip(tensor: object, *arguments: object, **options: object) -> object:
        hvd.allreduce_async_ = allreduce
        return skipped

    hvd.allreduce_async_ = skip
    hvd.synchronize = lambda handle: None if handle is skipped else synchronize(handle)


def send(name: str) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), getattr(signal, name))


OF_PROCESSES: dict[str, Callable[[], None]] = {
    "kill": send("SIGKILL"),
    "stop": send("SIGSTOP"),
    "gil": hold_gil,
    "slow": lambda: time.sleep(SLOW_S),
    "skip-collective": skip_collective,
    "SIGTERM": send("SIGTERM"),
    "SIGUSR1": send("SIGUSR1"),
}


def raise_error(*_: object) -> None:
    raise RuntimeError("injected fault")


def in_the_middle_of_the_backward_pass(loss: Any) -> Any:
    """A node of its graph; gradients of the layers behind it are being reduced already."""
    nodes = [loss.grad_fn]
    for node in nodes:
        nodes += [each for each, _ in node.next_functions if each is not None and each not in nodes]
    return nodes[len(nodes) // 2]


def made_of(kind: Any) -> list[Any]:
    """The instances of a class that are made from now on."""
    made: list[Any] = []
    make = kind.__init__

    def noted(instance: Any, *arguments: Any, **options: Any) -> None:
        make(instance, *arguments, **options)
        made.append(instance)

    kind.__init__ = noted
    return made


class Computing:
    """Faults of what a rank computes in one iteration: images, loss, gradient, and the running average of weights."""

    GRADIENT: ClassVar[dict[str | None, float]] = {"inf": float("inf"), "steep": 1e3, "over-fp16": 1e9}
    FAULTS = ("raise", "nan", "nan-activations", "nan-average", *GRADIENT)

    def __init__(self, framework: str) -> None:
        self.images = self.loss = self.gradient = 1.0
        self.raises = False
        (self._hook_keras if framework == "keras" else self._hook_torch)()

    def begin(self, fault: str | None) -> None:
        """With a fault, or with none any more."""
        self.images = float("nan") if fault == "nan-activations" else 1.0
        self.loss = float("nan") if fault == "nan" else 1.0
        self.gradient = self.GRADIENT.get(fault, 1.0)
        self.raises = fault == "raise"
        if fault == "nan-average":
            self.spoil_average()

    def _hook_torch(self) -> None:
        from hvd_imagenet.torch import ema, evaluation, network

        sums, forward = evaluation.sums_of_batch, network.Network.forward

        def sums_of_batch(*arguments: Any, **options: Any) -> Any:
            loss, found = sums(*arguments, **options)
            if self.raises:
                in_the_middle_of_the_backward_pass(loss).register_hook(raise_error)
            found = found.clone()
            found[1] *= self.loss
            return loss * self.loss * self.gradient, found

        def spoiled(network: Any, pixels: Any) -> Any:
            return forward(network, pixels.to(network.mean.dtype) * self.images if network.model.training else pixels)

        averages = made_of(ema.ModelEma)
        self.spoil_average = lambda: [each.fill_(float("nan")) for each in averages[0].tensors.values()]
        evaluation.sums_of_batch, network.Network.forward = sums_of_batch, spoiled

    def _hook_keras(self) -> None:
        import tensorflow as tf

        from hvd_imagenet.keras import network

        sums, call = network.sums_of_batch, network.Network.call

        def factor(name: str) -> Any:
            """Asked for in each step, though the step is compiled once."""
            return tf.ensure_shape(tf.numpy_function(lambda: self._factor(name), [], tf.float64), ())

        def sums_of_batch(*arguments: Any, **options: Any) -> Any:
            loss, found = sums(*arguments, **options)
            of_loss, one = factor("loss"), tf.ones((), tf.float64)
            return loss * tf.cast(of_loss * factor("gradient"), loss.dtype), found * tf.stack([one, of_loss, one, one])

        def spoiled(network: Any, pixels: Any, training: bool = False) -> Any:
            if training:
                pixels = tf.cast(pixels, network.variable_dtype) * tf.cast(factor("images"), network.variable_dtype)
            return call(network, pixels, training)

        averages = made_of(network.ModelEma)
        self.spoil_average = lambda: [each.assign(float("nan") * each) for each in averages[0].variables.values()]
        network.sums_of_batch, network.Network.call = sums_of_batch, spoiled

    def _factor(self, name: str) -> np.ndarray:
        if self.raises and name == "loss":
            raise_error()
        return np.array(getattr(self, name), np.float64)


def no_room(path: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def make_read_only(path: Path) -> None:
    folder = str(path.parent)
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)


class OfCheckpoint:
    """A fault while rank 0 writes the checkpoint of an iteration, beside the training."""

    # What Python tells of what it does, which of its arguments is a path, and what comes then.
    FAULTS: ClassVar[dict[str, tuple[str, int, Callable[[Path], None]]]] = {
        "kill-unnamed": ("os.rename", 1, lambda path: send("SIGKILL")()),
        "slow-write": ("os.rename", 1, lambda path: time.sleep(SLOW_WRITE_S)),
        "read-only": ("os.mkdir", 0, make_read_only),
        "enospc": ("open", 0, no_room),
    }

    def __init__(self, what: str, iteration: int) -> None:
        self._event, self._argument, self._inject = self.FAULTS[what]
        self._iteration = iteration
        self._happened = threading.Event()
        sys.addaudithook(self._look)

    def _look(self, event: str, arguments: tuple[object, ...]) -> None:
        if event != self._event or self._happened.is_set():
            return
        path = Path(str(arguments[self._argument]))
        if f"iteration-{self._iteration:08d}" in str(path):
            self._happened.set()
            self._inject(path)

    def hold(self, iteration: int | None) -> None:
        """Begins no iteration behind the next one before it has happened, so that a test finds it in time."""
        if iteration is not None and iteration > self._iteration:
            assert self._happened.wait(HAPPENS_WITHIN_S)


def of_computing(faults: Iterable[str], framework: str) -> Computing | None:
    """What hooks the framework, if one of the faults is of that kind."""
    return Computing(framework) if set(faults) & set(Computing.FAULTS) else None
