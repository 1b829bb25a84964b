import os
import shlex
import sys
import threading
from pathlib import Path

import pytest

from hvd_imagenet import __version__
from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher import probe as module
from hvd_imagenet.launcher.hosts import Host
from hvd_imagenet.launcher.probe import Found, check_interface, look, probe, probe_all, ssh_command


def fake_ssh(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Puts an ssh on PATH that runs a shell script."""
    (folder / "ssh").write_text("#!/bin/sh\n" + text)
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


# What ssh says → what is said of the host.
ANSWERS = {
    "refused": (
        "echo 'ssh: connect to host node7 port 22: Connection refused' >&2; exit 255",
        "ssh is refused; start sshd there, or name its port in ~/.ssh/config "
        "(ssh: connect to host node7 port 22: Connection refused)",
    ),
    "an unknown host key": (
        "echo 'No ED25519 host key is known for node7 and you have requested strict checking.' >&2\n"
        "echo 'Host key verification failed.' >&2; exit 255",
        "its host key is not known; look at it and accept it: ssh node7 (Host key verification failed.)",
    ),
    "a host key that has changed": (
        "echo '@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @' >&2\n"
        "echo 'Host key verification failed.' >&2; exit 255",
        "its host key is not the one that is known; make sure of the new one, then: ssh-keygen -R node7; ssh node7 "
        "(Host key verification failed.)",
    ),
    "no key of the user": (
        "echo 'me@node7: Permission denied (publickey).' >&2; exit 255",
        "ssh wants a password; give it your key: ssh-copy-id node7 (me@node7: Permission denied (publickey).)",
    ),
    "no such name": (
        "echo 'ssh: Could not resolve hostname node7: Name or service not known' >&2; exit 255",
        "the name is not known; write the host's address, or name it in ~/.ssh/config "
        "(ssh: Could not resolve hostname node7: Name or service not known)",
    ),
    "no answer": (
        "echo 'ssh: connect to host node7 port 22: Connection timed out' >&2; exit 255",
        "it does not answer; is it up, and on this network? (ssh: connect to host node7 port 22: Connection timed out)",
    ),
    "no interpreter": (
        "echo 'sh: 1: /x/python: not found' >&2; exit 127",
        f"{sys.executable} with hvd_imagenet is not there; install at the same path (sh: 1: /x/python: not found)",
    ),
    "another failure": (
        "echo 'kex_exchange_identification: read' >&2; exit 255",
        "ssh fails; try: ssh -o BatchMode=yes -o ConnectTimeout=8 -- node7 true (kex_exchange_identification: read)",
    ),
    "a talking shell": (
        "echo 'Welcome to node7'",
        "its shell prints 'Welcome to node7' where no one is logged in; make it print nothing",
    ),
    "a shell that talks in another encoding": (
        "printf 'Gr\\374ezi\\n'",
        "its shell prints 'Gr\ufffdezi' where no one is logged in; make it print nothing",
    ),
    "another version": (
        """echo '[[4, 0, true], "0.0.9", {}, null]'""",
        f"it has hvd_imagenet 0.0.9, this host {__version__}; install the same",
    ),
    "a complaint of its own": (
        """echo '"nvidia-smi -L: no answer within 15 s; look in dmesg"'""",
        "nvidia-smi -L: no answer within 15 s; look in dmesg",
    ),
    "another network": (
        f"""echo '[[4, 0, true], "{__version__}", {{"lo": "127.0.0.1", "eth0": "10.0.0.1"}}, null]'""",
        "it has no network interface ib7 that is up; it has eth0, lo",
    ),
}


@pytest.mark.parametrize(("script", "reason"), ANSWERS.values(), ids=ANSWERS.keys())
def test_why_a_host_cannot_take_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, reason: str) -> None:
    fake_ssh(tmp_path, monkeypatch, script)
    assert probe("node7", "ib7") == reason


def test_a_hundred_hosts_are_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent one takes up to 20 s, and a mistake is told within 30 s."""
    all_are_asked = threading.Barrier(100)

    def answer(host: str, interface: str | None, connect_timeout_s: int) -> str:
        all_are_asked.wait(timeout=20)
        return f"{host} is silent"

    monkeypatch.setattr(module, "probe", answer)
    assert probe_all([Host(f"node{number}") for number in range(100)], None)["node99"] == "node99 is silent"


def test_a_host_is_asked_by_argument_lists_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "words"
    fake_ssh(tmp_path, monkeypatch, f'printf \'%s\\n\' "$@" > {log}\nshift 6\nexec sh -c "$*"')
    found = probe("node7", None)
    assert isinstance(found, Found)
    assert found == look()
    expected = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=8", "--", "node7"]
    assert log.read_text().splitlines() == [*expected, sys.executable, "-m", "hvd_imagenet.launcher.probe"]


def test_little_time_is_spent_for_a_host_that_has_just_been_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_ssh(tmp_path, monkeypatch, f'echo "$4" > "{tmp_path}/$6"; exit 255')
    probe_all([Host("node1"), Host("node2")], None, lost={"node2"})
    assert (tmp_path / "node1").read_text() == "ConnectTimeout=8\n"
    assert (tmp_path / "node2").read_text() == "ConnectTimeout=2\n"


def test_a_host_says_its_complaint_where_it_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def complain() -> Found:
        raise UserError("nvidia-smi -L: no answer; look in dmesg")

    monkeypatch.setattr(module, "look", complain)
    module.main()
    assert capsys.readouterr().out == '"nvidia-smi -L: no answer; look in dmesg"\n'


def test_what_the_shell_over_there_would_read_is_quoted() -> None:
    words = ssh_command("node7", ["/opt/my python", "; reboot", "$(reboot)"])
    assert shlex.split(" ".join(words[words.index("node7") + 1 :])) == ["/opt/my python", "; reboot", "$(reboot)"]


def test_without_ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError) as caught:
        probe("node7", None)
    assert str(caught.value) == "ssh is not on PATH; get it with: apt install openssh-client"


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", os.uname().nodename])
def test_this_host_needs_no_ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    fake_ssh(tmp_path, monkeypatch, "exit 1")
    assert probe(name, "lo") == look()


def test_an_interface_that_this_host_does_not_have() -> None:
    with pytest.raises(UserError) as caught:
        check_interface("ib7", {"lo": "127.0.0.1", "eth0": "10.0.0.1"})
    assert str(caught.value) == (
        "--network-interface ib7: this host has none of this name that is up with an IPv4 address; it has eth0, lo"
    )
