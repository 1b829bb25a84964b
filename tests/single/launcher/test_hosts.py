from pathlib import Path

import pytest

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.hosts import Host, Place, discover_hosts, fill, listed_hosts, parse_hosts, read_hosts


def test_both_ways_of_writing_and_comments() -> None:
    text = "# a rack\n\nnode-1:8\nnode-2.example  slots = 4 # slow\nlocalhost\n10.0.0.7:2\n"
    expected = [Host("node-1", 8), Host("node-2.example", 4), Host("localhost"), Host("10.0.0.7", 2)]
    assert parse_hosts(text, "h") == expected


def test_open_mpi_s_most_slots_are_no_matter() -> None:
    text = "node1 slots=4 max_slots=8\nnode2 slots = 2  max-slots = 2 # all\nmax_slots slots=1\n"
    assert parse_hosts(text, "h") == [Host("node1", 4), Host("node2", 2), Host("max_slots", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-oProxyCommand=reboot:2", "h: '-oProxyCommand=reboot:2' is not a host and its slots, 1 or more; write one a"),
        ("node1;reboot", "h: 'node1;reboot' is not a host and its slots"),
        ("node1:0", "h: 'node1:0' is not a host and its slots"),
        ("node1:two", "h: 'node1:two' is not a host and its slots"),
        ("node1 max_slots=4", "h: 'node1 max_slots=4' is not a host and its slots"),
        ("node1 node2", "h: 'node1 node2' is not a host and its slots"),
        ("node1:2\nnode1:4", "h: node1 is listed twice; list it once with all of its slots"),
    ],
)
def test_what_is_no_host(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_hosts(text, "h")
    assert str(caught.value).startswith(message)


def test_a_list_on_the_command_line() -> None:
    assert listed_hosts("node-1:8,10.0.0.7") == (Host("node-1", 8), Host("10.0.0.7"))


LIST_MESSAGES = {
    "": "-H '': not a list of hosts and their slots; write them as in: -H node1:8,node2:8",
    "node1:2,": "-H 'node1:2,': not a list of hosts and their slots; write them as in: -H node1:8,node2:8",
    "node1:": "-H node1:: 'node1:' is not a host and its slots, 1 or more; write them as in: -H node1:8,node2:8",
    "a:2,b:0": "-H a:2,b:0: 'b:0' is not a host and its slots, 1 or more; write them as in: -H node1:8,node2:8",
    "a:2,a:2": "-H a:2,a:2: a is listed twice; list it once with all of its slots",
}


@pytest.mark.parametrize(("text", "message"), LIST_MESSAGES.items())
def test_what_is_no_list_of_hosts(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        listed_hosts(text)
    assert str(caught.value) == message


def test_a_list_where_a_file_belongs() -> None:
    with pytest.raises(
        UserError, match=r"--hostfile a:2,b:2: cannot be read \(No such .*\); a list of hosts is for -H"
    ):
        read_hosts(Path("a:2,b:2"))


def test_a_file_that_cannot_be_read_or_is_empty(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"--hostfile .*none: cannot be read \(No such file or directory\); name a file"
    ):
        read_hosts(tmp_path / "none")
    (tmp_path / "encoded").write_bytes(b"Z\xfcrich:2\n")
    with pytest.raises(
        UserError, match=r"--hostfile .*encoded: cannot be read \(not text\); name a file with a host a"
    ):
        read_hosts(tmp_path / "encoded")
    (tmp_path / "empty").write_text("# nothing yet\n")
    with pytest.raises(UserError, match=r"--hostfile .*empty: no host in it; write one a line, as in: node1:8"):
        read_hosts(tmp_path / "empty")


def script(folder: Path, text: str) -> str:
    path = folder / "discover"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def test_discovery(tmp_path: Path) -> None:
    assert discover_hosts(script(tmp_path, "echo node1:2; echo node2:1")) == [Host("node1", 2), Host("node2", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo no queue >&2; exit 3", "exit code 3, it says: no queue; it must print the hosts"),
        ("exit 1", "exit code 1, it says: nothing; it must print the hosts"),
        (
            r"printf 'Z\374rich\n'",
            "'Z\ufffdrich' is not a host and its slots, 1 or more; write one a line, as in: node1:8",
        ),
        ("exec sleep 60", "not done after 2 s; it must print and end"),
        ("echo 'a b c'", "'a b c' is not a host and its slots, 1 or more; write one a line, as in: node1:8"),
    ],
)
def test_a_script_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, message: str) -> None:
    monkeypatch.setattr("hvd_imagenet.launcher.hosts._SCRIPT_TIMEOUT_S", 2)
    path = script(tmp_path, text)
    with pytest.raises(UserError) as caught:
        discover_hosts(path)
    assert str(caught.value) == f"--discover {path}: {message}"


def test_no_script() -> None:
    with pytest.raises(UserError) as caught:
        discover_hosts("/nonexistent/discover")
    assert str(caught.value) == (
        "--discover /nonexistent/discover: cannot be run (No such file or directory); give the path of a program"
    )


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        (5, [Place("a", 2), Place("b", 1), Place("c", 2)]),
        (3, [Place("a", 2), Place("b", 1)]),
        (1, [Place("a", 1)]),
    ],
)
def test_hosts_are_filled_in_their_order(processes: int, expected: list[Place]) -> None:
    assert fill([("a", 2), ("b", 1), ("c", 4)], processes) == expected
