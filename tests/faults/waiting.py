"""Waiting for what another process or thread makes."""

import time
from pathlib import Path

_WITHIN_S = 60.0


def wait_for(path: Path) -> None:
    """Until there is a file or folder."""
    give_up_at_s = time.monotonic() + _WITHIN_S
    while not path.exists():
        assert time.monotonic() < give_up_at_s, f"{path} is not there after {_WITHIN_S:.0f} s"
        time.sleep(0.01)
