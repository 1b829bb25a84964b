"""Says how far the build is: a bar on a terminal, a line for every tenth elsewhere."""

import re
import sys
import time
from typing import NoReturn, TextIO

from tqdm import tqdm

_NINJA_STEP = re.compile(r"^\[(\d+)/(\d+)\]")
_PERCENT_A_LINE = 10


def parse_step(line: str) -> tuple[int, int] | None:
    """How many of how many steps are done, from a line that ninja prints.

    Args:
        line: one line of the build's output.

    Returns:
        (done, total), or None for any other line.

    Example:
        >>> parse_step("[34/107] Building CXX object common.cc.o"), parse_step("-- Found MPI_CXX")
        ((34, 107), None)
    """
    match = _NINJA_STEP.match(line)
    return (int(match.group(1)), int(match.group(2))) if match else None


class BuildProgress:
    """Shows the steps of a build as their lines come in.

    Args:
        stream: where to write; a bar if it is a terminal.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._bar: tqdm[NoReturn] | None = None
        self._shown_percent = -1
        self._configuring = False
        self._started_s = time.monotonic()

    def say(self, message: str) -> None:
        """Writes one line of its own."""
        self.close()
        print(message, file=self._stream, flush=True)

    def line(self, text: str) -> None:
        """Takes one line of the build's output."""
        step = parse_step(text)
        if step is None:
            if text.startswith("-- ") and not self._configuring:
                self._configuring = True
                self.say("configuring: cmake asks the compiler and each framework for their settings")
            return
        done, total = step
        if self._stream.isatty():
            if self._bar is None:
                self._bar = tqdm(total=total, desc="compiling", unit="file", file=self._stream)
            self._bar.total = total
            self._bar.update(done - self._bar.n)
            return
        percent = 100 * done // total
        if percent // _PERCENT_A_LINE > self._shown_percent // _PERCENT_A_LINE or self._shown_percent < 0:
            self._shown_percent = percent
            elapsed_s = int(time.monotonic() - self._started_s)
            print(f"compiling: {percent:3d} % ({done} of {total} steps, {elapsed_s} s)", file=self._stream, flush=True)

    def close(self) -> None:
        """Ends the bar, if there is one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
