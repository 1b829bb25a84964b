import resource
import sys
from pathlib import Path

import pytest

from hvd_imagenet import control_groups
from hvd_imagenet.doctor.limits import open_files, tasks, tasks_of_groups

NONE = sys.maxsize
VERSION_1 = "9:name=systemd:/\n8:pids:/docker/abc\n7:cpu,cpuacct:/docker/abc\n0::/\n"
# Membership, and pids.max of groups → the limit.
GROUPS: dict[str, tuple[str, dict[str, str], int]] = {
    "version 2": ("0::/a/b\n", {"a/b": "512\n"}, 512),
    "a group around it": ("0::/a/b\n", {"a/b": "512\n", "a": "100\n"}, 100),
    "of others": ("0::/a/b\n", {"a/b": "max\n", "a/c": "10\n", "a/b/c": "10\n"}, NONE),
    "a container's own group": ("0::/\n", {".": "2048\n"}, 2048),
    "the host's path in a container": (VERSION_1, {"pids": "64\n", "cpu": "1\n"}, 64),
    "version 1": (VERSION_1, {"pids/docker/abc": "32\n", "docker/abc": "1\n"}, 32),
    "a group outside of the namespace": ("0::/../other\n", {".": "7\n"}, 7),
    "none": ("0::/a\n", {}, NONE),
    "no control groups": ("", {".": "7\n"}, NONE),
}


def mounted(folder: Path, groups: dict[str, str]) -> Path:
    for name, limit in groups.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "pids.max").write_text(limit)
    return folder


@pytest.mark.parametrize(("membership", "groups", "expected"), GROUPS.values(), ids=GROUPS.keys())
def test_limits_of_control_groups(tmp_path: Path, membership: str, groups: dict[str, str], expected: int) -> None:
    assert tasks_of_groups(membership, mounted(tmp_path, groups)) == expected


@pytest.mark.parametrize(
    ("user", "limit", "group", "expected"),
    [
        (1000, 4096, "max", 4096),
        (1000, 4096, "512", 512),
        (1000, resource.RLIM_INFINITY, "max", NONE),
        (0, 4096, "max", NONE),  # the kernel does not hold root to it
        (0, 4096, "512", 512),
    ],
)
def test_processes_and_threads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: int, limit: int, group: str, expected: int
) -> None:
    (tmp_path / "membership").write_text("0::/\n")
    monkeypatch.setattr(control_groups, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(control_groups, "FOLDER", mounted(tmp_path, {".": group}))
    monkeypatch.setattr("os.geteuid", lambda: user)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: {resource.RLIMIT_NPROC: (limit, limit)}[kind])
    assert tasks() == expected


@pytest.mark.parametrize(("limit", "files"), [(1024, 1024), (resource.RLIM_INFINITY, NONE)])
def test_open_files(monkeypatch: pytest.MonkeyPatch, limit: int, files: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: {resource.RLIMIT_NOFILE: (limit, -1)}[kind])
    assert open_files() == files
