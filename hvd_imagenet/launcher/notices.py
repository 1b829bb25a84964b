"""What launchers add to standard error when a rank has failed: it repeats what the rank itself has said."""

import re

_RULE = b"-" * 74 + b"\n"
# Open MPI 5 has no option that silences this notice (4 has -q): two rules with the text between them.
_MPIRUN_STARTS = tuple(
    _RULE + name + b" detected that one or more processes exited with non-zero status"
    for name in (b"prterun", b"mpirun")
)
# horovodrun dies of an exception of its own, the last thing that it says.
_TRACEBACK = b'Traceback (most recent call last):\n  File "'
_HOROVODRUN = re.compile(
    rb'Traceback \(most recent call last\):\n  File "[^"\n]*/horovodrun", line .*\n(?:[ ].*\n)*'
    rb"RuntimeError: Horovod detected that one or more processes exited with non-zero status"
    rb"(?:.*\n)*?Exit code: \d+\n\n"
)
# srun says whose exit code was not 0 and what it ends for it; what else it says, of lost nodes or time limits, is news.
_SRUN = re.compile(
    rb"^(?:srun: error: \S+: tasks? [\d,-]+: Exited with exit code \d+"
    rb"|srun: (?:\S+: )*Terminating (?:StepId=|job step )\S+"
    rb"|srun: Job step aborted: Waiting up to \d+ seconds for job step to finish\."
    rb"|slurmstepd(?:-\S+)?: error: \*\*\* STEP \S+ ON \S+ CANCELLED AT \S+ \*\*\*)\n",
    re.MULTILINE,
)
_SRUN_STARTS = (b"srun: ", b"slurmstepd")


def split_notice(text: bytes) -> tuple[bytes, bytes]:
    r"""Takes a launcher's notice on an exit code out of its standard error.

    Args:
        text: what has come so far and was not yet shown.

    Returns:
        What may be shown now, and what must wait because it is, or may become, the notice.

    Example:
        >>> split_notice(b"error: no such folder\n" + b"-" * 74)[0]
        b'error: no such folder\n'
        >>> split_notice(b"no notice")
        (b'no notice', b'')
    """
    text = _SRUN.sub(b"", text)
    for start in _MPIRUN_STARTS:
        begin = text.find(start)
        if begin >= 0:
            end = text.find(_RULE, begin + len(_RULE))
            return _without(text, begin, end + len(_RULE) if end >= 0 else None)
    begin = _traceback(text)
    if begin >= 0:
        found = _HOROVODRUN.match(text, begin)
        return _without(text, begin, found.end() if found else None)
    kept = max(_srun_line(text), *(_overlap(text, start) for start in (*_MPIRUN_STARTS, _TRACEBACK)))
    return text[: len(text) - kept], text[len(text) - kept :]


def _without(text: bytes, begin: int, end: int | None) -> tuple[bytes, bytes]:
    """Leaves out a notice, or waits for its end."""
    if end is None:
        return text[:begin], text[begin:]
    shown, waiting = split_notice(text[end:])
    return text[:begin] + shown, waiting


def _srun_line(text: bytes) -> int:
    """The length of a line of srun's at the end of `text` that has not ended, or may become one."""
    line = text[text.rfind(b"\n") + 1 :]
    return len(line) if any(line.startswith(start) or start.startswith(line) for start in _SRUN_STARTS) else 0


def _traceback(text: bytes) -> int:
    """Where a traceback begins that is, or may become, one of horovodrun; -1 if there is none."""
    begin = text.find(_TRACEBACK)
    while begin >= 0:
        file, newline, _ = text[begin + len(_TRACEBACK) :].partition(b"\n")
        at_line_start = text[begin - 1 : begin] in (b"", b"\n")
        if at_line_start and (not newline or b'/horovodrun", line' in file):
            return begin
        begin = text.find(_TRACEBACK, begin + 1)
    return -1


def _overlap(text: bytes, start: bytes) -> int:
    """The length of the longest end of `text` with which `start` begins."""
    return next(n for n in range(min(len(text), len(start)), -1, -1) if text.endswith(start[:n]))
