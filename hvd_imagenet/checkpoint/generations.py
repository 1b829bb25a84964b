"""The checkpoints of a run folder, from the oldest to the newest: which there are, and which stay."""

import re
from pathlib import Path

from hvd_imagenet.checkpoint.disk import remove_folder, replace_text
from hvd_imagenet.checkpoint.format import FOLDER, MANIFEST, damaged, parse_manifest
from hvd_imagenet.errors import UserError

KEPT = 3
BEST = "best"
"""A file beside the checkpoints, with the name of the one that has the lowest validation error."""

_NAME = re.compile(r"iteration-(\d{8,15})(?:-(\d{1,8}))?")


def generations(run_folder: Path) -> list[Path]:
    """The checkpoints of a run, damaged ones too.

    Args:
        run_folder: of the run; need not exist.

    Returns:
        Their folders, the newest last.

    Example:
        >>> generations(Path("/nowhere"))
        []
    """
    return sorted((path for path in (run_folder / FOLDER).glob("iteration-*") if _NAME.fullmatch(path.name)), key=_age)


def _age(path: Path) -> tuple[int, int]:
    """The iteration, and which of its checkpoints this is; a run may write that of an iteration once more."""
    named = _NAME.fullmatch(path.name)
    assert named is not None
    return int(named[1]), int(named[2] or 0)


def new_name(run_folder: Path, iteration: int) -> str:
    """A name for a checkpoint that none has: what is there stays until the new one stands beside it.

    Args:
        run_folder: of the run.
        iteration: of the checkpoint.

    Returns:
        The folder's name.

    Example:
        >>> new_name(Path("/nowhere"), 7)
        'iteration-00000007'
    """
    takes = [take for there, take in map(_age, generations(run_folder)) if there == iteration]
    return f"iteration-{iteration:08d}" + (f"-{max(takes) + 1}" if takes else "")


def latest(run_folder: Path) -> Path | None:
    """The newest checkpoint of a run, which may be damaged.

    Args:
        run_folder: of the run; need not exist.

    Returns:
        Its folder, or None if there is none.

    Example:
        >>> latest(Path("/nowhere")) is None
        True
    """
    found = generations(run_folder)
    return found[-1] if found else None


def find(path: Path) -> Path:
    """The checkpoint that a user means by a path: its folder, a run's, of which the newest, or a run's file `best`.

    Args:
        path: as the user wrote it.

    Returns:
        The checkpoint's folder.

    Raises:
        UserError: there is none.

    Example:
        >>> find(Path("/nowhere"))
        Traceback (most recent call last):
        ...
        hvd_imagenet.errors.UserError: checkpoint /nowhere: no such folder
    """
    if path.name == BEST and path.is_file():
        return _pointed_at(path)
    if not path.exists():
        raise UserError(f"checkpoint {path}: no such folder")
    found = path if (path / MANIFEST).is_file() or _NAME.fullmatch(path.name) else latest(path)
    if found is None:
        raise UserError(
            f"checkpoint {path}: neither a checkpoint (no {MANIFEST}) nor a run folder with {FOLDER}/iteration-*"
        )
    return found


def _pointed_at(pointer: Path) -> Path:
    name = pointer.read_bytes()[:64].decode(errors="replace").strip()
    if not _NAME.fullmatch(name) or not (pointer.parent / name).is_dir():
        raise damaged(f"checkpoint {pointer}", "names no checkpoint beside it")
    return pointer.parent / name


def retire(run_folder: Path, written: Path, keep: int) -> None:
    """Marks the best checkpoint, and removes all but the last ones and the best.

    Args:
        run_folder: of the run.
        written: the checkpoint that was written just now; it stays.
        keep: how many stay, at least 1, beside the best.
    """
    iteration, _ = _age(written)
    earlier = [path for path in generations(run_folder) if _age(path)[0] < iteration]
    best = _best_of([*earlier, written])
    pointer = run_folder / FOLDER / BEST
    if best is None:
        pointer.unlink(missing_ok=True)
    else:
        replace_text(pointer, f"{best.name}\n")
    kept = {written, best, *earlier[max(len(earlier) - keep + 1, 0) :]}
    # Later ones are damaged: the run went on from an earlier one, and will write them again.
    for path in generations(run_folder):
        if path not in kept:
            remove_folder(path)


def _best_of(paths: list[Path]) -> Path | None:
    """The one with the lowest validation error, the first of equals; None where none was measured."""
    errors = [(error, path) for path in paths if (error := _validation_error(path)) is not None]
    return min(errors, key=lambda pair: pair[0])[1] if errors else None


def _validation_error(path: Path) -> float | None:
    try:
        error: float | None = parse_manifest((path / MANIFEST).read_text(), "").get("val_error")
    except (OSError, ValueError, UserError):  # a damaged one is not the best
        return None
    return error
