"""What README says to type, for the tests that type it."""

import re
from collections.abc import Mapping

from ranks import ROOT

_BLOCKS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)


def shown(lines: str, places: Mapping[str, str] | None = None) -> str:
    """Lines that README shows, word for word, with other paths and slots in them.

    Args:
        lines: as they stand there, one after another in one block; the test fails where they do not.
        places: what stands in a line → what the test has in its place.

    Returns:
        What a shell runs.
    """
    assert any(f"\n{lines}\n" in f"\n{block}" for block in _BLOCKS), f"README does not show: {lines}"
    for there, here in (places or {}).items():
        assert there in lines, f"{there} is not in: {lines}"
        lines = lines.replace(there, here)
    return lines
