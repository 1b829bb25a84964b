"""What a run shows while it goes: a bar on a terminal, plain lines elsewhere; on rank 0 alone."""

import os
import sys
import time
from pathlib import Path

from tqdm import tqdm

from hvd_imagenet.core.metrics import Sums

_SECONDS_BETWEEN_LINES = 30.0


def own_command() -> str:
    """How to call this program from here, for the lines that say what to do next.

    Returns:
        The console script beside this interpreter, by the shorter of its relative and its absolute path.

    Example:
        >>> own_command().endswith(("hvd-imagenet", "-m hvd_imagenet"))
        True
    """
    script = Path(sys.executable).with_name("hvd-imagenet")
    if not script.exists():
        return f"{sys.executable} -m hvd_imagenet"
    return min(os.path.relpath(script), str(script), key=len)


def epoch_line(epoch: int, epochs: float, lr: float, speed: float, train: Sums, validation: Sums) -> str:
    """What is said at an epoch's end.

    Args:
        epoch: counted from 0.
        epochs: of the run.
        lr: η of the last step.
        speed: images a second.
        train: over the epoch's images.
        validation: over all validation images.

    Returns:
        One line of at most 80 characters.

    Example:
        >>> epoch_line(0, 90, 0.1, 1234.5, Sums(4, 2.0, 3, 4), Sums(2, 1.0, 1, 2))
        'epoch  1/90  lr 0.1     loss 0.5000  error 25.00 % val 50.00 %  1,234 img/s'
    """
    loss = f"{train.mean_loss:.4f}" if train.mean_loss < 10 else f"{train.mean_loss:#.4g}"
    # "100.00" loses its last digit: it is as wide as the others then.
    error, val_error = (f"{percent:5.2f}"[:5] for percent in (train.error, validation.error))
    return (
        f"epoch {epoch + 1:>2}/{epochs:g}  lr {lr:<6.3g}  loss {loss}  "
        f"error {error} % val {val_error} %  {speed:,.0f} img/s"
    )


class Progress:
    """Shows iterations, images a second, η and loss.

    Args:
        shown: False on all ranks but 0.
        bar: whether the output is a terminal.
        iterations: of the whole run.
        done: of them before this process started.
        minibatch: kn, for images a second.

    Example:
        >>> progress = Progress(shown=True, bar=False, iterations=3, done=0, minibatch=32)
        >>> progress.line("epoch 1/1")
        epoch 1/1
        >>> progress.close()
    """

    def __init__(self, shown: bool, bar: bool, iterations: int, done: int, minibatch: int) -> None:
        self._shown = shown
        self._iterations = iterations
        self._minibatch = minibatch
        self._last_line_s = time.monotonic()
        self._iteration = self._last_line_iteration = done
        self._bar = None
        if shown and bar:
            self._bar = tqdm(total=iterations, initial=done, unit="it", dynamic_ncols=True, file=sys.stderr)

    def iteration(self, iteration: int, lr: float, loss: float) -> None:
        """Moves on by one.

        Args:
            iteration: that is done, counted from 0.
            lr: η of its step.
            loss: mean over its minibatch.
        """
        self._iteration = iteration + 1
        if self._bar is not None:
            speed = (self._bar.format_dict["rate"] or 0.0) * self._minibatch
            self._bar.set_postfix_str(f"{speed:,.0f} images/s, lr {lr:.3g}, loss {loss:.3f}", refresh=False)
            self._bar.update(1)
        elif self._shown and time.monotonic() - self._last_line_s >= _SECONDS_BETWEEN_LINES:
            seconds = time.monotonic() - self._last_line_s
            speed = (self._iteration - self._last_line_iteration) * self._minibatch / seconds
            self.line(
                f"iteration {iteration + 1}/{self._iterations}  lr {lr:.4g}  loss {loss:.4f}  {speed:,.0f} images/s"
            )

    def line(self, text: str) -> None:
        """Prints a line above the bar.

        Args:
            text: without a line feed.
        """
        if not self._shown:
            return
        if self._bar is not None:
            self._bar.write(text, file=sys.stdout)
        else:
            print(text, flush=True)
        self._last_line_s = time.monotonic()
        self._last_line_iteration = self._iteration

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.close()
