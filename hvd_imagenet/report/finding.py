"""Which run folders are meant by the paths of a command line."""

from collections.abc import Iterable
from pathlib import Path

from hvd_imagenet.errors import UserError
from hvd_imagenet.report.run import FILES


def run_folders(paths: Iterable[Path]) -> list[Path]:
    """Run folders in the order given; a folder of run folders stands for all of them, in order of their names.

    Args:
        paths: run folders, or folders that hold some.

    Returns:
        Each once.

    Raises:
        UserError: a path is no folder, or neither it nor a folder in it is a run.

    Example:
        >>> run_folders([Path("/nowhere")])
        Traceback (most recent call last):
        ...
        hvd_imagenet.errors.UserError: /nowhere: no such folder; name one that train has written, as runs/RUN
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if path.is_file():
            raise UserError(f"{path}: is a file; name the run's folder, {path.parent}")
        if not path.is_dir():
            raise UserError(f"{path}: no such folder; name one that train has written, as runs/RUN")
        runs = [path] if is_run(path) else sorted(each for each in path.iterdir() if each.is_dir() and is_run(each))
        if not runs:
            raise UserError(
                f"{path}: holds no run, and no folder that does: none of {', '.join(FILES)}; "
                f"name one that train has written, as runs/RUN"
            )
        for run in runs:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def is_run(path: Path) -> bool:
    """Whether a folder holds one of a run's files.

    Args:
        path: a folder.

    Example:
        >>> is_run(Path("/"))
        False
    """
    return any((path / name).exists() for name in FILES)
