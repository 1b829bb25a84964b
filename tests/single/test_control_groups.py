import math
from pathlib import Path

import pytest

from hvd_imagenet import control_groups
from hvd_imagenet.control_groups import cpus, cpus_of_groups

VERSION_1 = "9:name=systemd:/\n8:pids:/docker/abc\n7:cpu,cpuacct:/docker/abc\n0::/\n"
HALF_A_SECOND = {"cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "100000\n"}
# Membership, and the files of groups → processors.
GROUPS: dict[str, tuple[str, dict[str, dict[str, str]], float]] = {
    "docker run --cpus 2": ("0::/\n", {".": {"cpu.max": "200000 100000\n"}}, 2.0),
    "a pod around the container": (
        "0::/pod/a\n",
        {"pod": {"cpu.max": "150000 100000\n"}, "pod/a": {"cpu.max": "max 100000\n"}},
        1.5,
    ),
    "of others": ("0::/a\n", {"a": {"cpu.max": "max 100000\n"}, "b": {"cpu.max": "100000 100000\n"}}, math.inf),
    "version 1": (VERSION_1, {"cpu,cpuacct/docker/abc": HALF_A_SECOND}, 0.5),
    "version 1, the container's own group as the top": (VERSION_1, {"cpu,cpuacct": HALF_A_SECOND}, 0.5),
    "version 1, no quota": (VERSION_1, {"cpu,cpuacct": HALF_A_SECOND | {"cpu.cfs_quota_us": "-1\n"}}, math.inf),
    "none": ("0::/a\n", {}, math.inf),
    "no control groups": ("", {".": {"cpu.max": "100000 100000\n"}}, math.inf),
}


def mounted(folder: Path, groups: dict[str, dict[str, str]]) -> Path:
    for group, files in groups.items():
        (folder / group).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / group / name).write_text(text)
    return folder


@pytest.mark.parametrize(("membership", "groups", "expected"), GROUPS.values(), ids=GROUPS.keys())
def test_quota_of_processors(
    tmp_path: Path, membership: str, groups: dict[str, dict[str, str]], expected: float
) -> None:
    assert cpus_of_groups(membership, mounted(tmp_path, groups)) == expected


def test_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "membership").write_text("0::/a\n")
    monkeypatch.setattr(control_groups, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(control_groups, "FOLDER", mounted(tmp_path, {"a": {"cpu.max": "300000 100000\n"}}))
    assert cpus() == 3
    monkeypatch.setattr(control_groups, "MEMBERSHIP", tmp_path / "none")
    assert cpus() == math.inf
