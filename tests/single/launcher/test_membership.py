from pathlib import Path
from typing import Any

import pytest

from hvd_imagenet import __version__
from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher import membership, probe
from hvd_imagenet.launcher.hosts import Place, listed_hosts
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.membership import TooFew, Wanted, members, wait_for_members
from hvd_imagenet.launcher.probe import Found, Unasked

BIG = Found(Machine(cores=64, gpus=8, whole=True), __version__, {"lo": "127.0.0.1"}, seen_from="10.0.0.1")
SMALL = Found(Machine(cores=4, gpus=0, whole=False), __version__, {"lo": "127.0.0.1"})
REFUSED = "ssh is refused; start sshd there, or name its port in ~/.ssh/config (ssh: connect: Connection refused)"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> dict[str, Found | str]:
    """Hosts by name, which a test fills in; nobody is asked."""
    answers: dict[str, Found | str] = {}
    monkeypatch.setattr(probe, "probe", lambda host, interface, connect_timeout_s: answers[host])
    return answers


def hosts_file(folder: Path, text: str) -> Path:
    (folder / "hosts").write_text(text)
    return folder / "hosts"


def test_all_hosts_with_room_for_all(cluster: dict[str, Found | str], tmp_path: Path) -> None:
    cluster |= {"a": BIG, "b": SMALL, "c": BIG}
    said: list[str] = []
    found = members(Wanted(hosts_file=hosts_file(tmp_path, "a\nb\nc:2\n")), None, said.append)
    assert found == (14, Machine(4, 0, False), (Place("a", 8), Place("b", 4), Place("c", 2)), "10.0.0.1")
    assert found.fullest == 8
    assert said == []


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        ({"processes": 9}, (Place("a", 8), Place("b", 1))),
        ({"most": 8}, (Place("a", 8),)),
        ({"processes": 99, "least": 2}, (Place("a", 8), Place("b", 4))),
    ],
)
def test_fewer_than_there_is_room_for(
    cluster: dict[str, Found | str], tmp_path: Path, wanted: dict[str, Any], places: tuple[Place, ...]
) -> None:
    cluster |= {"a": BIG, "b": SMALL}
    found = members(Wanted(hosts_file=hosts_file(tmp_path, "a\nb\n"), **wanted), 2, lambda line: None)
    assert (found.processes, found.places) == (sum(place.processes for place in places), places)


def test_a_host_is_dropped_with_the_reason_where_it_is_not_needed(
    cluster: dict[str, Found | str], tmp_path: Path
) -> None:
    cluster |= {"a": SMALL, "b": REFUSED}
    wanted, said = Wanted(hosts_file=hosts_file(tmp_path, "a\nb:4\n"), least=4), list[str]()
    assert members(wanted, 4, said.append).places == (Place("a", 4),)
    assert said == [f"launch: goes on without b: {REFUSED}"]
    with pytest.raises(TooFew) as caught:
        members(wanted, 5, said.append)
    assert str(caught.value) == f"launch: 5 processes are needed, 4 can be had; b: {REFUSED}"


def test_at_the_first_start_a_listed_host_that_does_not_answer_is_a_mistake(
    cluster: dict[str, Found | str], tmp_path: Path
) -> None:
    cluster |= {"a": SMALL, "b": REFUSED}
    wanted = Wanted(hosts_file=hosts_file(tmp_path, "a\nb:4\n"))
    with pytest.raises(UserError) as caught:
        wait_for_members(wanted, None, first=True, say=lambda line: None)
    assert str(caught.value) == f"launch: all of the hosts are needed, 4 can be had; b: {REFUSED}"


def test_a_dry_run_supposes_nothing_of_hosts_that_were_asked_or_whose_slots_are_not_known(
    cluster: dict[str, Found | str],
) -> None:
    cluster |= {"a": SMALL, "b": "it has no network interface ib7 that is up; it has eth0, lo", "c": Unasked(REFUSED)}
    for hosts, why in (("a:4,b:4", f"b: {cluster['b']}"), ("a:4,c", f"c: {REFUSED}")):
        with pytest.raises(TooFew) as caught:
            members(Wanted(hosts_listed=listed_hosts(hosts), dry_run=True), None, pytest.fail)
        assert str(caught.value) == f"launch: all of the hosts are needed, 4 can be had; {why}"
    with pytest.raises(TooFew):
        members(Wanted(hosts_listed=listed_hosts("a:4,c:4")), None, print)


def test_of_many_hosts_that_do_not_answer_four_are_named(cluster: dict[str, Found | str]) -> None:
    names = [f"node{number}" for number in range(1, 101)]
    cluster |= dict.fromkeys(names, "no answer")
    wanted = Wanted(hosts_listed=listed_hosts(",".join(names)))
    with pytest.raises(UserError) as caught:
        wait_for_members(wanted, None, first=True, say=print)
    assert str(caught.value) == (
        "launch: all of the hosts are needed, 0 can be had; node1: no answer; node2: no answer; node3: no answer; "
        "node4: no answer and 96 more"
    )


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        ("a:2,b:4", "a:2, b:4"),
        ("a:1,b:1,c:1,d:1,e:1,f:1", "a:1, b:1, c:1, d:1 and 2 more"),
    ],
)
def test_more_processes_than_slots_is_told_before_any_host_is_asked(hosts: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        wait_for_members(Wanted(7, hosts_listed=listed_hosts(hosts)), 7, first=True, say=print)
    assert str(caught.value) == (
        f"launch: 7 processes are needed, the hosts have slots for 6 ({message}); lower -np, or give them more"
    )


def test_later_it_is_waited_for_and_taken_back(
    cluster: dict[str, Found | str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster |= {"a": SMALL, "b": REFUSED}
    wanted, said = Wanted(hosts_file=hosts_file(tmp_path, "a\nb:4\n"), least=8), list[str]()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            cluster["b"] = SMALL

    monkeypatch.setattr(membership.time, "sleep", sleep)
    assert wait_for_members(wanted, 8, first=False, say=said.append).processes == 8
    assert said == [f"launch: 8 processes are needed, 4 can be had; b: {REFUSED}; looking again every 5 s"]


def test_a_lost_host_that_the_job_cannot_do_without_gets_its_time_at_the_next_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, int]] = []

    def answer(host: str, interface: str | None, connect_timeout_s: int) -> Found | str:
        asked[-1][host] = connect_timeout_s
        return SMALL if host == "a" or connect_timeout_s > 2 else "no answer"

    monkeypatch.setattr(probe, "probe", answer)
    monkeypatch.setattr(membership.time, "sleep", lambda seconds: asked.append({}))
    for least, looks in ((4, [{"a": 8, "b": 2}]), (8, [{"a": 8, "b": 2}, {"a": 8, "b": 8}])):
        asked[:] = [{}]
        wanted = Wanted(hosts_listed=listed_hosts("a:4,b:4"))
        found = wait_for_members(wanted, least, first=False, say=lambda line: None, lost={"b"})
        assert (asked, found.processes) == (looks, least)


@pytest.mark.parametrize(("first", "error"), [(True, UserError), (False, TooFew)])
def test_waiting_has_an_end(
    cluster: dict[str, Found | str], tmp_path: Path, first: bool, error: type[Exception]
) -> None:
    script = tmp_path / "discover"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    with pytest.raises(error) as caught:
        wait_for_members(Wanted(discover=str(script), start_timeout_s=1), 2, first=first, say=lambda line: None)
    assert str(caught.value) == (
        "launch: 2 processes are needed, 0 can be had; no other host is listed; given up after --start-timeout 1 s"
    )


@pytest.mark.parametrize(("seen_from", "address"), [("127.0.0.1", "10.0.0.1"), ("::1", "10.0.0.1"), (None, "10.0.0.1")])
def test_this_host_under_another_name_does_not_say_where_others_reach_it(
    cluster: dict[str, Found | str], seen_from: str | None, address: str
) -> None:
    cluster |= {"a": BIG._replace(seen_from=seen_from), "b": BIG}
    assert members(Wanted(hosts_listed=listed_hosts("a,b")), None, print).address == address
    assert members(Wanted(hosts_listed=listed_hosts("a")), None, print).address is None


def test_this_machine_alone() -> None:
    found = members(Wanted(processes=3), 3, lambda line: None)
    assert (found.processes, found.places, found.fullest) == (3, (), 3)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"least": 0}, "--min-np 0: at least 1 process is needed"),
        ({"most": -1}, "--max-np -1: at least 1 process is needed"),
        ({"start_timeout_s": -1.0}, "--start-timeout -1: seconds, 0 or more"),
        ({"start_timeout_s": float("nan")}, "--start-timeout nan: seconds, 0 or more"),
        ({"least": 4, "most": 2}, "--min-np 4 is more than --max-np 2; it must be at most as much"),
        ({"least": 4, "processes": 2}, "--min-np 4 is more than -np 2; it must be at most as much"),
        ({"processes": 4, "most": 2}, "-np 4 is more than --max-np 2; it must be at most as much"),
        (
            {"hosts_file": Path("h"), "discover": "d"},
            "--hostfile and --discover: each says which hosts there are; give one of them",
        ),
    ],
)
def test_what_contradicts_itself(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        Wanted(**wanted)
    assert str(caught.value) == message
