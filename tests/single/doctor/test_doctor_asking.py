import os
import shlex
import sys
import time
from pathlib import Path

import pytest
from made_up_hosts import made_up

from hvd_imagenet import __version__
from hvd_imagenet.doctor.asking import Answer, ask, ask_all
from hvd_imagenet.doctor.report import MARK
from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.hosts import Host

REPORT = f"{MARK}{made_up(7).as_json()}"


def fake_ssh(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Puts an ssh on PATH that runs a shell script."""
    (folder / "ssh").write_text("#!/bin/sh\n" + text)
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def answering(report: str, clock: str = "now") -> str:
    """A script that prints a report and then the time for each line."""
    greeting = r"printf 'Welcome to Z\374rich\n'"  # ISO 8859-1, as of a shell of the last century
    return f"{greeting}\necho {shlex.quote(report)}\nwhile read line; do date -d '{clock}' +%s.%N; done"


@pytest.mark.parametrize(("clock", "ahead_s"), [("now", 0.0), ("+1 hour", 3600.0), ("-90 seconds", -90.0)])
def test_a_report_and_a_clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: str, ahead_s: float) -> None:
    fake_ssh(tmp_path, monkeypatch, answering(REPORT, clock))
    answer = ask("node7", None)
    assert isinstance(answer, Answer)
    assert answer.report == made_up(7)
    assert abs(answer.clock_ahead_s - ahead_s) <= answer.clock_error_s + 0.001
    assert answer.clock_error_s < 1


def test_what_ssh_is_asked_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_ssh(tmp_path, monkeypatch, f"printf '%s\\n' \"$@\" > {tmp_path}/words\n{answering(REPORT)}")
    ask("node7", Path("/my data"))
    assert (tmp_path / "words").read_text().splitlines() == [
        *("-o", "BatchMode=yes", "-o", "ConnectTimeout=8", "--", "node7"),
        *(sys.executable, "-m", "hvd_imagenet.doctor.report", "'/my data'"),
    ]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "echo 'ssh: connect to host node7 port 22: Connection refused' >&2; exit 255",
            "ssh is refused; start sshd there, or name its port in ~/.ssh/config "
            "(ssh: connect to host node7 port 22: Connection refused)",
        ),
        (
            "echo 'ssh: Could not resolve hostname node7: Name or service not known' >&2; exit 255",
            "the name is not known; write the host's address, or name it in ~/.ssh/config "
            "(ssh: Could not resolve hostname node7: Name or service not known)",
        ),
        (
            f"echo '{MARK}{{}}'",
            f"its report is not that of hvd_imagenet {__version__}, which this host has; install the same",
        ),
        (
            f"echo {shlex.quote(REPORT)}; echo 'Connection to node7 closed: timed out' >&2; exit 255",
            "it does not answer; is it up, and on this network? (Connection to node7 closed: timed out)",
        ),
    ],
)
def test_why_there_is_no_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, reason: str) -> None:
    fake_ssh(tmp_path, monkeypatch, script)
    assert ask("node7", None) == reason


def test_why_this_very_host_has_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert ask("localhost", None) == (
        "its report fails (exit code 1); see all of it: /bin/false -m hvd_imagenet.doctor.report"
    )


def test_a_host_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_ssh(tmp_path, monkeypatch, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    began_s = time.monotonic()
    reason = ask("node7", None, timeout_s=0.5)
    assert reason == "no report after 0.5 s; is it overloaded, or does a file system there not answer?"
    assert time.monotonic() - began_s < 5
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_all_hosts_are_asked_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_ssh(tmp_path, monkeypatch, f"sleep 0.5\n{answering(REPORT)}")
    began_s = time.monotonic()
    found = ask_all([Host(f"node{number}") for number in range(8)], None)
    assert time.monotonic() - began_s < 3
    assert [type(answer) for answer in found.values()] == [Answer] * 8


def test_without_ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError) as caught:
        ask("node7", None)
    assert str(caught.value) == "ssh is not on PATH; get it with: apt install openssh-client"
