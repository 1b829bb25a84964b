"""The result file of the scaling lab: points with when and from which commit each was measured, and what follows."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from provenance import provenance
from scaling_lab_points import Messages, Setting, is_of
from scaling_lab_summary import Row, best_setting, shown, summary

PARTS = ("confirmed", "with_stragglers", "timeline")


class Results:
    """What has been measured; written to the file after each addition.

    Args:
        path: of the file, which may be there; None keeps all in memory.
        forgotten: settings whose points in the file are to be measured again, and with them all that follows from them.

    Raises:
        SystemExit: the file is of another machine.
    """

    def __init__(self, path: Path | None, forgotten: Sequence[Setting] = ()) -> None:
        self.path = path
        old: dict[str, Any] = json.loads(path.read_text()) if path is not None and path.exists() else {}
        self._here = provenance("up to 16 ranks")
        if old and old.get("machine") != self._here["machine"]:
            raise SystemExit(f"error: --json {path}: was measured on {old.get('machine')}; name another file")
        self._command = old.get("command", self._here["command"])
        self.points: list[Row] = [
            point for point in old.get("points", []) if not any(is_of(point, setting) for setting in forgotten)
        ]
        self.parts: Row = {} if forgotten else {name: old[name] for name in PARTS if name in old}
        self.calibration: Row = {} if forgotten else old.get("calibration", {})

    @property
    def origin(self) -> Row:
        """When and from which commit what is measured now is."""
        return {"date": self._here["date"], "commit": self._here["commit"]}

    def messages(self, key: str) -> Messages | None:
        """What was measured of short messages under a key."""
        found = self.calibration.get(key)
        return None if found is None else Messages(found["message_s"], found["negotiation_s"])

    def calibrate(self, key: str, messages: Messages | float) -> None:
        """Keeps what was measured before points are."""
        value = messages if isinstance(messages, float) else {**asdict(messages), **self.origin}
        self.calibration[key] = value

    def add(self, point: Row) -> None:
        """Keeps a point."""
        self.points.append(point)
        self._write()

    def has(self, part: str, setting: Setting) -> bool:
        """Whether a part is there, for this setting."""
        return part in self.parts and is_of(self.parts[part], setting)

    def put(self, part: str, found: Row) -> None:
        """Keeps a part."""
        self.parts[part] = found
        self._write()

    def _write(self) -> None:
        self._command = self._here["command"]
        if self.path is not None:
            self.path.write_text(json.dumps(self.found, indent=1) + "\n")

    @property
    def found(self) -> Row:
        """All of it, as the file has it."""
        rows = [*self.points, *(self.parts[name] for name in PARTS[:2] if name in self.parts)]
        best = best_setting(self.points)
        confirmed = self.parts.get("confirmed")
        return {
            "command": self._command,
            "machine": self._here["machine"],
            "date": _span([row["date"] for row in rows]),
            "commit": ", ".join(dict.fromkeys(row["commit"] for row in rows)) or self._here["commit"],
            "ratios": {} if confirmed is None else {"efficiency_at_the_papers_ratio": confirmed["efficiency"]},
            **summary(rows),
            **({} if best is None else {"best_settings": str(best)}),
            **self.parts,
            "shown": shown(self.points),
            "calibration": self.calibration,
            "points": self.points,
        }


def _span(dates: list[str]) -> str:
    return " to ".join(dict.fromkeys([min(dates), max(dates)])) if dates else ""
