import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hvd_imagenet.launcher.environment import MONITOR_VARIABLE, SECRET_VARIABLE
from hvd_imagenet.launcher.guard_link import END
from hvd_imagenet.launcher.messages import Channel
from hvd_imagenet.launcher.monitor import Monitor
from hvd_imagenet.launcher.stalls import Failure

TIMEOUT_S = 20
REMEDY = "; look at the log of vm, or have the job started again with --max-restarts"
RUNS: dict[str, Any] = {"stopped_s": 0.0, "age_s": 0.1, "iteration": 7, "action": "computing"}


class Client:
    """A guard, or who claims to be one."""

    def __init__(self, monitor: Monitor, rank: int, secret: str | None = None) -> None:
        host, _, port = monitor.environment[MONITOR_VARIABLE].rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=TIMEOUT_S)
        self.channel = Channel(bytes.fromhex(secret or monitor.environment[SECRET_VARIABLE]), "guard")
        self.rank = rank
        self.socket.sendall(self.channel.greeting)
        while not self.channel.ready:
            self.channel.receive(self.socket.recv(4096))

    def report(self, **message: Any) -> None:
        self.socket.sendall(self.channel.send(rank=self.rank, host="vm", **{**RUNS, **message}))

    def hear(self) -> list[Any]:
        """The commands of the next lines; "closed" when the monitor has closed the connection."""
        while True:
            data = self.socket.recv(4096)
            found = [message["command"] for message in self.channel.receive(data) if "command" in message]
            if found or not data:
                return found or ["closed"]


def ask_to_end(monitor: Monitor, number: int) -> None:
    """Sends a signal to the ranks as soon as the monitor has heard of one."""
    give_up_at_s = time.monotonic() + TIMEOUT_S
    while not monitor.signal_ranks(number):
        assert time.monotonic() < give_up_at_s
        time.sleep(0.01)


def wait_until_known(monitor: Monitor, rank: int) -> None:
    """What two clients send, the monitor may read in the other order; of a rank not yet known it waits for nothing."""
    give_up_at_s = time.monotonic() + TIMEOUT_S
    while rank not in monitor._states:
        assert time.monotonic() < give_up_at_s
        time.sleep(0.01)


def wait_for_a_line(said: list[str]) -> None:
    """The monitor closes a connection before it says why."""
    give_up_at_s = time.monotonic() + TIMEOUT_S
    while not said and time.monotonic() < give_up_at_s:
        time.sleep(0.01)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def monitor(said: list[str]) -> Iterator[Monitor]:
    with subprocess.Popen(["sleep", "60"]) as launcher:
        with Monitor("127.0.0.1", stall_timeout_s=30, start_timeout_s=60, say=said.append) as watching:
            watching.watch_launcher(launcher)
            yield watching
        launcher.kill()


def test_the_first_failure_is_the_cause_and_ends_the_others(monitor: Monitor, said: list[str]) -> None:
    first, second = Client(monitor, 0), Client(monitor, 1)
    second.report()
    wait_until_known(monitor, 1)
    first.report(ended=7, by_signal=False, told=False)
    assert second.hear() == [END]
    # mpirun would end the other at once; its guard may be waiting for a checkpoint that is being written.
    first.socket.settimeout(1.5)
    with pytest.raises(TimeoutError):
        first.hear()
    second.report(ended=137, by_signal=True, told=True)
    assert second.hear() == first.hear() == ["closed"]
    assert monitor.failure == Failure(7, None)
    assert said == []


def test_a_guard_that_does_not_end_keeps_the_others_for_a_while_only(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvd_imagenet.launcher.monitor._LET_GO_AFTER_S", 0.1)
    first, second = Client(monitor, 0), Client(monitor, 1)
    second.report()
    first.report(ended=7, by_signal=False, told=False)
    assert second.hear() == [END]
    assert first.hear() == ["closed"]


def test_a_launcher_that_ends_well_without_a_rank_has_failed(
    monitor: Monitor, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvd_imagenet.launcher.monitor._LAST_REPORT_WITHIN_S", 0.2)
    first, second = Client(monitor, 0), Client(monitor, 5)
    second.report()
    first.report(ended=0, by_signal=False, told=False)
    assert first.hear() == ["closed"]
    monitor.check_ends()
    reason = f"rank 5 on vm is lost: the launcher has ended without it (computing, iteration 7){REMEDY}"
    assert (monitor.failure, said) == (Failure(1, reason), [f"launch: {reason}"])


def test_ranks_that_have_ended_well_are_no_failure(monitor: Monitor) -> None:
    client = Client(monitor, 0)
    client.report(ended=0, by_signal=False, told=False)
    assert client.hear() == ["closed"]
    monitor.check_ends()
    assert monitor.failure is None


def test_a_signal_is_told(monitor: Monitor, said: list[str]) -> None:
    client = Client(monitor, 3)
    client.report(ended=137, by_signal=True, told=False)
    assert client.hear() == ["closed"]
    assert monitor.failure is not None
    assert monitor.failure.code == 137
    assert said == ["launch: rank 3 on vm was ended by SIGKILL (computing, iteration 7); out of memory, perhaps"]


def test_a_guard_that_is_gone_is_a_lost_rank(monitor: Monitor, said: list[str]) -> None:
    first, second = Client(monitor, 0), Client(monitor, 1)
    first.report()
    second.report()
    first.socket.close()
    assert second.hear() == [END]
    reason = f"rank 0 on vm is lost: its guard is gone (computing, iteration 7){REMEDY}"
    assert monitor.silent_ranks == []
    assert (monitor.failure, said) == (Failure(1, reason), [f"launch: {reason}"])


def test_a_host_that_falls_silent_is_lost(monitor: Monitor, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvd_imagenet.launcher.monitor._SILENCE_S", 1.0)
    monkeypatch.setattr(monitor, "_local", False)
    client = Client(monitor, 0)
    client.report()
    assert client.hear() == ["closed"]
    wait_for_a_line(said)
    reason = f"rank 0 on vm is lost: its host has not been heard of for 1 s (computing, iteration 7){REMEDY}"
    assert (monitor.failure, said) == (Failure(1, reason), [f"launch: {reason}"])
    assert monitor.silent_ranks == [0]
    # It waits for that host, perhaps.
    assert monitor._launcher is not None
    assert monitor._launcher.wait(timeout=5) == -signal.SIGTERM


def test_a_silent_host_is_named_where_the_launcher_ends_the_others_for_it(
    monitor: Monitor, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvd_imagenet.launcher.monitor._SUSPECT_S", 0.5)
    monkeypatch.setattr(monitor, "_local", False)
    silent, other = Client(monitor, 0), Client(monitor, 1)
    silent.report()
    time.sleep(1.0)
    other.report()
    other.socket.close()
    assert silent.hear() == ["closed"]
    wait_for_a_line(said)
    (line,) = said
    assert line.startswith("launch: rank 0 on vm is lost: its host has not been heard of for ")
    assert monitor.failure is not None
    assert f"launch: {monitor.failure.reason}" == line
    assert monitor.silent_ranks == [0]


def test_a_stall_ends_all_and_names_the_culprit(monitor: Monitor, said: list[str]) -> None:
    first, second = Client(monitor, 0), Client(monitor, 1)
    first.report(action="reducing gradients", age_s=29.0)
    second.report(age_s=31.0)
    assert first.hear() == second.hear() == [END]
    assert monitor.failure is not None
    assert monitor.failure.code == 124
    assert said[0].startswith(
        "launch: stalled: rank 1 on vm has been computing, iteration 7, for 31 s; the others wait"
    )
    assert said[0].endswith("--stall-timeout 30 s (raise it, or start again with --max-restarts)")


def test_ranks_that_are_preempted_are_let_go_together(monitor: Monitor) -> None:
    first, second = Client(monitor, 0), Client(monitor, 1)
    first.report()
    ask_to_end(monitor, 15)
    second.report()
    assert first.hear() == second.hear() == [15]
    first.report(ended=143, by_signal=False, told=True)
    first.socket.settimeout(1.5)
    with pytest.raises(TimeoutError):
        first.hear()
    second.report(ended=143, by_signal=False, told=True)
    assert second.hear() == first.hear() == ["closed"]
    assert monitor.failure == Failure(143, None)
    assert monitor.asked_to_end


def test_after_the_end_was_ordered_nothing_is_a_failure(monitor: Monitor, said: list[str]) -> None:
    client = Client(monitor, 0)
    client.report()
    ask_to_end(monitor, 10)
    assert client.hear() == [10]
    monitor.end()
    assert client.hear() == [END]
    client.socket.close()
    late = Client(monitor, 1)
    late.report()
    assert late.hear() == [END]
    assert (monitor.failure, said) == (None, [])
    assert not monitor.signal_ranks(15)


def test_strangers_are_shown_the_door_and_the_job_goes_on(monitor: Monitor, said: list[str]) -> None:
    guard = Client(monitor, 0)
    guard.report()
    stranger = Client(monitor, 1, secret="00" * 32)
    stranger.report(ended=1, by_signal=False, told=False)
    assert stranger.hear() == ["closed"]
    host, _, port = monitor.environment[MONITOR_VARIABLE].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as visitor:
        visitor.sendall(b"PUT /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
        while visitor.recv(4096):
            pass
    guard.report(ended=0, by_signal=False, told=False)
    assert guard.hear() == ["closed"]
    assert (monitor.failure, said) == (None, [])


def test_a_job_of_which_no_process_begins_is_ended(said: list[str]) -> None:
    with subprocess.Popen(["sleep", "60"]) as launcher:
        with Monitor("127.0.0.1", stall_timeout_s=0.1, start_timeout_s=0.3, say=said.append) as watching:
            watching.watch_launcher(launcher)
            assert launcher.wait(TIMEOUT_S) == -signal.SIGTERM
        assert watching.failure is not None
        assert watching.failure.code == 124
    assert said == ["launch: no process began in 0.3 s; if slow, raise --start-timeout"]
