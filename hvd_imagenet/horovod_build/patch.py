"""What a patch to Horovod's sources is, and how it is applied: each anchor once, or not at all."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class PatchError(Exception):
    """A patch does not fit the source it was written for."""


@dataclass(frozen=True)
class Edit:
    """The replacement of one piece of text in one file.

    Attributes:
        file: path from the root of Horovod's sources, with forward slashes.
        anchor: the text to replace; it must occur in the file exactly once.
        replacement: the text to put in its place.
    """

    file: str
    anchor: str
    replacement: str


@dataclass(frozen=True)
class Patch:
    """A named change to Horovod's sources.

    Attributes:
        name: short and stable; it is listed in the build's record.
        reason: what goes wrong without the patch.
        upstream: where the problem is known upstream (`horovod/horovod#N`), or "not reported".
        edits: the replacements that make up the change, in the order in which they are made.
    """

    name: str
    reason: str
    upstream: str
    edits: tuple[Edit, ...]


def edited(text: str, edit: Edit, patch_name: str) -> str:
    """The text after one edit.

    Args:
        text: the content of the file that the edit names.
        edit: the edit.
        patch_name: the patch that the edit belongs to, for the message.

    Returns:
        The text with the anchor replaced.

    Raises:
        PatchError: the anchor does not occur exactly once.

    Example:
        >>> edited("set(STANDARD 14)", Edit("CMakeLists.txt", "14", "17"), "c++17")
        'set(STANDARD 17)'
    """
    count = text.count(edit.anchor)
    if count != 1:
        first_line = edit.anchor.strip().splitlines()[0]
        raise PatchError(
            f"patch {patch_name}: {edit.file} must hold its anchor exactly once, found {count} times: {first_line!r}"
        )
    return text.replace(edit.anchor, edit.replacement)


def apply_patches(root: Path, patches: Iterable[Patch]) -> None:
    """Applies patches to unpacked sources, all of them or none.

    Args:
        root: the folder of Horovod's sources.
        patches: in the order in which they are applied.

    Raises:
        PatchError: an edit's file is missing, or its anchor does not occur exactly once; nothing was written.
    """
    texts: dict[str, str] = {}
    for patch in patches:
        for edit in patch.edits:
            if edit.file not in texts:
                try:
                    texts[edit.file] = (root / edit.file).read_text(encoding="utf-8")
                except FileNotFoundError:
                    raise PatchError(f"patch {patch.name}: there is no file {edit.file} in the sources") from None
            texts[edit.file] = edited(texts[edit.file], edit, patch.name)
    for file, text in texts.items():
        (root / file).write_text(text, encoding="utf-8")


def is_compiled(edit: Edit) -> bool:
    """Whether an edit changes what the compiler makes: any file but the Python files of the package.

    Args:
        edit: the edit.

    Example:
        >>> is_compiled(Edit("setup.py", "a", "b")), is_compiled(Edit("horovod/runner/launch.py", "a", "b"))
        (True, False)
    """
    return not (edit.file.startswith("horovod/") and edit.file.endswith(".py"))


def digest(patches: Iterable[Patch], compiled: bool) -> str:
    """A fingerprint of what the patches do; their reasons do not count.

    Args:
        patches: in the order in which they are applied.
        compiled: whether of the edits that `is_compiled`, or of the others.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> one = Patch("a", "because", "not reported", (Edit("horovod/f.py", "x", "y"),))
        >>> other = Patch("b", "for another reason", "not reported", (Edit("horovod/f.py", "x", "z"),))
        >>> digest([one], compiled=True) == digest([other], compiled=True)
        True
        >>> digest([one], compiled=False) == digest([other], compiled=False)
        False
    """
    state = hashlib.sha256()
    for patch in patches:
        for edit in (edit for edit in patch.edits if is_compiled(edit) == compiled):
            for part in (edit.file, edit.anchor, edit.replacement):
                state.update(len(part).to_bytes(8, "big") + part.encode())
    return state.hexdigest()
