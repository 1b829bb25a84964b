"""A new wheel from one of another version of the patches that changed Python files alone: nothing is compiled."""

import base64
import csv
import hashlib
import io
import zipfile
from pathlib import Path

from hvd_imagenet.horovod_build.installed import BUILD_INFO_NAME, BuildInfo


def _record_row(name: str, content: bytes) -> list[str]:
    """The line of a wheel's RECORD on a file."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return [name, f"sha256={digest}", str(len(content))]


def _updated_record(record: bytes, changed: dict[str, bytes]) -> bytes:
    rows = [
        _record_row(row[0], changed[row[0]]) if row[0] in changed else row
        for row in csv.reader(io.StringIO(record.decode("utf-8")))
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8")


def refreshed_wheel(wheel: Path, sources: Path, info: BuildInfo, folder: Path) -> Path:
    """Copies a wheel, with the Python files of other sources in place of its own.

    Args:
        wheel: built from sources that differ from the given ones in Python files alone.
        sources: root of the patched sources.
        info: the record of the new build.
        folder: where the copy goes.

    Returns:
        The path of the copy, which has the wheel's name.

    Raises:
        zipfile.BadZipFile: the wheel is damaged.
    """
    copy = folder / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as new:
        changed = {f"horovod/{BUILD_INFO_NAME}": info.as_json().encode("utf-8")}
        for name in old.namelist():
            if name.startswith("horovod/") and name.endswith(".py") and (sources / name).is_file():
                changed[name] = (sources / name).read_bytes()
        for entry in old.infolist():
            content = changed.get(entry.filename, old.read(entry))
            if entry.filename.endswith(".dist-info/RECORD"):
                content = _updated_record(content, changed)
            new.writestr(entry, content)
    return copy
