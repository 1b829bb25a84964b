"""Writes one shard of packed images: the file appears under its name when it is whole and on the disk."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from hvd_imagenet.data.packed_manifest import COLUMNS, FORMAT, Shard, sync_folder

# Images held in memory before they are written as one record batch.
_BATCH_BYTES = 32_000_000


class ShardWriter:
    """Writes rows; as a context, it removes what it has written unless `close` was called.

    Args:
        path: of the shard.
        classes: names of the classes, for the schema's metadata.

    Raises:
        OSError: the disk is full or cannot be written.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._file = _HashedFile(self._partial)
        self._schema = pa.schema(list(COLUMNS.items()), {"format": FORMAT, "classes": json.dumps(list(classes))})
        self._arrow = pa.ipc.new_file(self._file, self._schema)
        self._rows: list[tuple[bytes, int, bytes]] = []
        self._batch_bytes = 0
        self.rows = 0
        self.image_bytes = 0
        self._source_bytes = 0

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def add(self, image: bytes, label: int, name: bytes, source_bytes: int) -> None:
        """Adds a row.

        Args:
            image: the encoded file.
            label: index into the classes.
            name: the path in its folder.
            source_bytes: what the image takes in the file that it comes from.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        self._rows.append((image, label, name))
        self.rows += 1
        self.image_bytes += len(image)
        self._batch_bytes += len(image)
        self._source_bytes += source_bytes
        if self._batch_bytes >= _BATCH_BYTES:
            self._write_batch()

    def close(self) -> Shard:
        """Finishes the file.

        Returns:
            What the manifest says of it.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        if self._rows:
            self._write_batch()
        self._arrow.close()
        size = self._file.finish()
        self._partial.replace(self._path)
        sync_folder(self._path.parent)
        return Shard(self._path.name, self.rows, size, self._file.sha256.hexdigest(), self._source_bytes)

    def _write_batch(self) -> None:
        columns = zip(*self._rows, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._arrow.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._rows.clear()
        self._batch_bytes = 0


class _HashedFile:
    """A file for pyarrow to write from front to back."""

    closed = False

    def __init__(self, path: Path) -> None:
        self.sha256 = hashlib.sha256()
        self._file = path.open("wb")

    def write(self, data: "bytes | pa.Buffer") -> int:
        self.sha256.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    def finish(self) -> int:
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
