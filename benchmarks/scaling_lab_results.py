"""The result file of the scaling lab: points with when and from which commit each was measured, and what follows."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from provenance import provenance
from scaling_lab_points import Messages, Setting, has_settings, is_of
from scaling_lab_summary import Row, best_setting, shown, summary

PARTS = ("confirmed", "with_stragglers", "timeline")


class Results:
    """What has been measured; written to the file after each addition.

    Args:
        path: of the file, which may be there; None keeps all in memory.
        again: whether all is to be measured again; what is in the file stays there until it is.

    Raises:
        SystemExit: the file is of another machine.
    """

    def __init__(self, path: Path | None, again: bool = False) -> None:
        self.path, self.again = path, again
        old: dict[str, Any] = json.loads(path.read_text()) if path is not None and path.exists() else {}
        self._here = provenance("up to 16 ranks")
        if old and old.get("machine") != self._here["machine"]:
            raise SystemExit(f"error: --json {path}: was measured on {old.get('machine')}; name another file")
        self._command = old.get("command", self._here["command"])
        self.points: list[Row] = old.get("points", [])
        self.parts: Row = {name: old[name] for name in PARTS if name in old}
        self.calibration: Row = {} if again else old.get("calibration", {})

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
        """Keeps a point, in the place of an older one."""
        self.points = [each for each in self.points if not has_settings(each, Setting(**_settings_of(point)))]
        self.points.append(point)
        self._write()

    def left(self, settings: Sequence[Setting]) -> list[Setting]:
        """Those that are still to be measured."""
        if self.again:
            return list(settings)
        return [setting for setting in settings if not any(is_of(point, setting) for point in self.points)]

    def has(self, part: str, setting: Setting) -> bool:
        """Whether a part is there, for this setting."""
        return not self.again and part in self.parts and is_of(self.parts[part], setting)

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


def _settings_of(point: Row) -> Row:
    return {field.name: point[field.name] for field in fields(Setting)}


def _span(dates: list[str]) -> str:
    return " to ".join(dict.fromkeys([min(dates), max(dates)])) if dates else ""
