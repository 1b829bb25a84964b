"""Files that grow by whole records, and that a full disk neither blocks nor fills with half of what was lost."""

import os
import struct
import time
from pathlib import Path


class AppendFile:
    """A file that records are added to.

    Python's own buffered files try again to write what a full disk has refused, when they are closed and when the
    interpreter exits; this one drops it.

    Args:
        path: of the file; made if missing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = AppendFile(Path(folder, "a"))
        ...     file.write(b"record")
        ...     before = Path(folder, "a").read_bytes()
        ...     file.close()
        ...     before, Path(folder, "a").read_bytes()
        (b'', b'record')
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._waiting = bytearray()

    def write(self, record: bytes) -> None:
        """Takes a record; it is in the file after the next flush."""
        self._waiting += record

    def flush(self) -> None:
        """Hands what was written to the operating system.

        Raises:
            OSError: it takes no more.
        """
        waiting, self._waiting = memoryview(self._waiting), bytearray()
        while waiting:
            waiting = waiting[self._file.write(waiting) :]

    def sync(self) -> None:
        """Waits until what was flushed is on the disk; another thread than the writing one may call it.

        Raises:
            OSError: it cannot be written.
        """
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flushes and closes; the file is closed in any case.

        Raises:
            OSError: the operating system takes no more.
        """
        try:
            self.flush()
        finally:
            self._file.close()


class EventFile:
    """An event file of TensorBoard with scalars.

    tensorboardX's own SummaryWriter writes in a thread, which a full disk ends; its queue then blocks the program.

    Args:
        folder: to write into, which exists.
        purge_step: scalars of this step and later ones, in older files, are not shown; None if there are none.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     events = EventFile(Path(folder))
        ...     events.scalar("iteration/loss", 0.5, step=7)
        ...     events.close()
        ...     len(list(Path(folder).glob("events.out.tfevents.*")))
        1
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        from tensorboardX.proto import event_pb2, summary_pb2  # late: tensorboardX imports torch where it finds it
        from tensorboardX.record_writer import masked_crc32c

        self._event, self._session_log = event_pb2.Event, event_pb2.SessionLog
        self._summary, self._crc = summary_pb2.Summary, masked_crc32c
        name = f"events.out.tfevents.{time.time():.0f}.{os.uname().nodename}.{os.getpid()}"
        self._file = AppendFile(folder / name)
        self._write(file_version="brain.Event:2")
        if purge_step is not None:
            self._write(step=purge_step, session_log=self._session_log(status=self._session_log.START))

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Adds a point.

        Args:
            tag: name of the curve.
            value: finite.
            step: iteration.
        """
        point = self._summary.Value(tag=tag, simple_value=value)
        self._write(step=step, summary=self._summary(value=[point]))

    def _write(self, **fields: object) -> None:
        event = self._event(wall_time=time.time(), **fields).SerializeToString()
        header = struct.pack("<Q", len(event))
        for part in (header, event):
            self._file.write(part + struct.pack("<I", self._crc(part)))

    def flush(self) -> None:
        """As AppendFile has it."""
        self._file.flush()

    def close(self) -> None:
        """As AppendFile has it."""
        self._file.close()
