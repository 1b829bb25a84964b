"""Checkpoints are written beside the training, one at a time."""

import threading
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from hvd_imagenet.checkpoint.format import Checkpoint
from hvd_imagenet.checkpoint.generations import KEPT
from hvd_imagenet.checkpoint.writing import save
from hvd_imagenet.errors import UserError
from hvd_imagenet.heartbeat import saving

WRITER_THREAD = "checkpoint writer"
"""The thread's name; the interpreter waits for it before it exits."""


class BackgroundWriter:
    """Writes checkpoints in a thread, and keeps what went wrong until somebody asks.

    Args:
        keep: how many checkpoints stay, beside the best.

    Example:
        >>> import tempfile
        >>> from hvd_imagenet.checkpoint import latest
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     writer = BackgroundWriter()
        ...     writer.write(Path(folder), Checkpoint(7, {"model": {}, "momentum": {}}))
        ...     writer.wait()
        ...     latest(Path(folder)).name
        'iteration-00000007'
    """

    def __init__(self, keep: int = KEPT) -> None:
        self._keep = keep
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether a checkpoint could not be written, as far as is known by now; `wait` says why."""
        return self._error is not None

    def write(self, run_folder: Path, checkpoint: Checkpoint, before: Callable[[], None] = lambda: None) -> None:
        """Begins to write; waits for the checkpoint before this one, so that there are never two in memory.

        Args:
            run_folder: of the run.
            checkpoint: its arrays must not be changed any more.
            before: is called first, in the thread; where it raises OSError there is no checkpoint.

        Raises:
            UserError: the one before could not be written.
        """
        self.wait()
        self._thread = threading.Thread(target=self._save, args=(run_folder, checkpoint, before), name=WRITER_THREAD)
        self._thread.start()

    def wait(self) -> None:
        """Waits until what was begun is on the disk.

        Raises:
            UserError: it could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise self._error

    def _save(self, run_folder: Path, checkpoint: Checkpoint, before: Callable[[], None]) -> None:
        try:
            with saving():
                before()
                save(run_folder, checkpoint, self._keep)
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            self._error = UserError(
                f"checkpoint of iteration {checkpoint.iteration} in {run_folder}: cannot be written ({reason}); "
                f"make room or mend the folder, and start again: the run goes on from the checkpoint before it"
            )
        except BaseException as error:  # a fault of this program: told by the thread that waits
            self._error = error
