"""One thing that `doctor` found, and how findings are shown."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what was looked at, short and stable.
        status: "ok"; "warning": training works, but something may be in the way; "error": training does not work.
        message: what was found, with versions.
        remedy: what to do about it; empty for "ok".
    """

    name: str
    status: Status
    message: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if (self.status == "ok") == bool(self.remedy):
            raise ValueError(f"remedy must be given unless status is ok, got {self.status!r} and {self.remedy!r}")


def works(findings: Sequence[Finding]) -> bool:
    """Whether training would work: no finding is an error.

    Args:
        findings: of all the checks.

    Example:
        >>> works([Finding("cores", "ok", "2"), Finding("horovod", "error", "missing", "install it")])
        False
    """
    return all(finding.status != "error" for finding in findings)


def as_text(findings: Sequence[Finding]) -> str:
    """The findings as lines, each remedy below its finding.

    Args:
        findings: in the order in which they are shown.

    Returns:
        Text without a newline at its end.

    Example:
        >>> print(as_text([Finding("cores", "ok", "2 cores"), Finding("mpirun", "error", "none", "install it")]))
        ok       cores: 2 cores
        error    mpirun: none
                   -> install it
    """
    lines = []
    for finding in findings:
        lines.append(f"{finding.status:<8} {finding.name}: {finding.message}")
        if finding.remedy:
            lines.append(f"{'':<10} -> {finding.remedy}")
    return "\n".join(lines)


def as_json(findings: Sequence[Finding]) -> str:
    """The findings as a JSON object with `works` and `findings`.

    Args:
        findings: in the order in which they are listed.
    """
    return json.dumps({"works": works(findings), "findings": [asdict(finding) for finding in findings]}, indent=2)
