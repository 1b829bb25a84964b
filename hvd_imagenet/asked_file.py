"""Files that the user names by an option, to have something in beside the terminal."""

from pathlib import Path

from hvd_imagenet.errors import UserError


def write_asked_for(option: str, path: Path, text: str) -> None:
    """Writes a file that the user has asked for.

    Args:
        option: that named it.
        path: of the file.
        text: its contents.

    Raises:
        UserError: it cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_asked_for("--json", Path(folder) / "plan.json", "{}")
        ...     (Path(folder) / "plan.json").read_text().splitlines()
        ['{}']
    """
    try:
        path.write_text(text if text.endswith("\n") else f"{text}\n")
    except OSError as error:
        raise UserError(
            f"{option} {path}: cannot be written ({error.strerror}); name a file in a folder of yours"
        ) from error
