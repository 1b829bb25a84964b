"""What `launch` knows of its ranks while they run: the guards report to it, and it ends a job that cannot go on.

It listens on one address, the loopback unless the job has other hosts. A thread does all of it, so that the main thread
is free for what the ranks print.
"""

import os
import queue
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from hvd_imagenet.launcher.environment import MONITOR_VARIABLE, SECRET_VARIABLE
from hvd_imagenet.launcher.guard_connection import GuardConnection, longest_silent
from hvd_imagenet.launcher.guard_link import END
from hvd_imagenet.launcher.stalls import Failure, Pace, RankState, death, lost, slow, stall

STALLED = 124
"""Exit code of a job that stood still, as of timeout(1)."""
PREEMPTED = 143
"""Exit code of a run that was asked to end and has left a checkpoint."""
LOST = 1
"""Exit code of a job that has lost a rank or a host without a word."""

Say = Callable[[str], None]
_TICK_S = 0.5
_PING_INTERVAL_S = 5.0
_SILENCE_S = 20.0
_SUSPECT_S = 5.0  # guards report every second
_UNKNOWN_FOR_S = 10.0
_WARN_AGAIN_S = 300.0
_LAUNCHER_ENDS_WITHIN_S = 8.0
_LAUNCHER_WAITS_FOR_LOST_HOST_S = 1.0  # for the end of its ssh there, when all others have ended
_LEAVE_WITHIN_S = 30.0
_LET_GO_AFTER_S = 7.0  # longer than guards wait for a checkpoint that is being written
_LAST_REPORT_WITHIN_S = 5.0


class Monitor:
    """Watches one start of a job; use it as a context manager around `run_job`.

    Args:
        address: to listen on, one of this host.
        stall_timeout_s: for how long a rank may stand still; 0 for ever.
        start_timeout_s: likewise before the first iteration, where that is longer.
        say: shows a line to the user.

    Example:
        >>> with Monitor("127.0.0.1", stall_timeout_s=600, start_timeout_s=600, say=print) as monitor:
        ...     sorted(monitor.environment)
        ['HVD_IMAGENET_MONITOR', 'HVD_IMAGENET_SECRET']
    """

    def __init__(self, address: str, stall_timeout_s: float, start_timeout_s: float, say: Say) -> None:
        self._secret = os.urandom(32)
        self._local = address.startswith("127.")
        self._timeouts_s, self._say = (stall_timeout_s, start_timeout_s), say
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family, backlog=1024)
        self._listener.setblocking(False)
        port = self._listener.getsockname()[1]
        self.environment = {MONITOR_VARIABLE: f"{address}:{port}", SECRET_VARIABLE: self._secret.hex()}
        self.failure: Failure | None = None
        self.ending = False
        """Whether the job is being ended on purpose: what its ranks do from then on is no failure."""
        self._asked: int | None = None
        self._guards: dict[int, GuardConnection] = {}
        self._states: dict[int, RankState] = {}
        self._pace = Pace()
        self._warned_s: dict[int, float] = {}
        self._commands: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._wake, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._launcher: subprocess.Popen[bytes] | None = None
        self._launcher_was_asked = False
        self._end_at_s = self._let_go_at_s = self._end_launcher_at_s = float("inf")
        self._thread = threading.Thread(target=self._serve, name="hvd_imagenet-monitor", daemon=True)

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *error: object) -> None:
        if self._thread.is_alive():
            self._command(None)
            self._thread.join()
        for guard in self._guards.values():
            guard.socket.close()
        for end in (self._listener, self._wake, self._waker):
            end.close()
        self._selector.close()

    def _command(self, command: int | None) -> None:
        self._commands.put(command)
        self._waker.send(b"x")

    def watch_launcher(self, launcher: "subprocess.Popen[bytes]") -> None:
        """Begins to watch; this process is ended too where it does not end by itself after its ranks."""
        self._launcher, self._began_s = launcher, time.monotonic()
        self._thread.start()  # only now: a process that has threads should not be forked

    def signal_ranks(self, number: int) -> bool:
        """Sends a signal to every rank, and returns whether there are any; may be called in a signal handler."""
        if not self._states or self.ending or self.failure is not None:
            return False
        self._asked = number
        self._command(number)
        return True

    @property
    def silent_ranks(self) -> list[int]:
        """Those whose host has not been heard of for long."""
        return [rank for rank, state in self._states.items() if state.silent]

    @property
    def asked_to_end(self) -> bool:
        """Whether the ranks were asked to end by themselves."""
        return self._asked is not None

    def end(self) -> None:
        """Ends the ranks on purpose; may be called in a signal handler."""
        self.ending = True
        self._command(END)

    def check_ends(self) -> None:
        """Asks for a failure behind exit code 0: Open MPI 5's, when it has lost a host and ended the others' ranks."""
        give_up_at_s = time.monotonic() + _LAST_REPORT_WITHIN_S
        while self.failure is None and (left := [each for each in list(self._states.values()) if each.ended is None]):
            if time.monotonic() > give_up_at_s:
                self.failure = Failure(LOST, lost(left[0], "the launcher has ended without it"))
                self._say(f"launch: {self.failure.reason}")
            time.sleep(0.01)

    def _serve(self) -> None:
        try:
            self._watch()
        except Exception:
            assert self._launcher is not None
            self._launcher.terminate()  # nobody would see it stand still
            raise

    def _watch(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        tick_s = ping_s = time.monotonic()
        while True:
            for key, _ in self._selector.select(_TICK_S):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is not self._wake:
                    self._hear(self._guards[key.fd])
                elif not self._obey():
                    return
            now_s = time.monotonic()
            if now_s - tick_s > _PING_INTERVAL_S:  # this process was stopped and goes on: nobody was silent
                for guard in self._guards.values():
                    guard.heard_s = now_s
            if now_s - ping_s > _PING_INTERVAL_S:
                self._send_to_all(alive=True)
                ping_s = now_s
            tick_s = now_s
            self._look(now_s)

    def _obey(self) -> bool:
        self._wake.recv(4096)
        while not self._commands.empty():
            if (command := self._commands.get()) is None:
                return False
            self._send_to_all(command=command)
        return True

    def _send_to_all(self, **message: Any) -> None:
        for guard in list(self._guards.values()):
            if guard.state is not None:
                guard.send(**message)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            time.sleep(_TICK_S)  # too many open files, perhaps; those of strangers are closed soon
            return
        self._guards[connection.fileno()] = GuardConnection(connection, self._secret, time.monotonic())
        self._selector.register(connection, selectors.EVENT_READ)

    def _close(self, guard: GuardConnection) -> None:
        if self._guards.pop(guard.socket.fileno(), None) is not None:
            self._selector.unregister(guard.socket)
            guard.socket.close()

    def _hear(self, guard: GuardConnection) -> None:
        messages, goes_on = guard.receive()
        if any(self._note(guard, message) for message in messages):
            self._close(guard)
        elif not goes_on:
            self._close(guard)
            if guard.state is not None and guard.state.ended is None:
                # A launcher that has itself lost a host ends the others' guards.
                silent = None if self._local else longest_silent(self._guards.values(), _SUSPECT_S)
                if silent is not None:
                    self._lose_silent(silent)
                self._lose(guard.state, "its guard is gone")

    def _note(self, guard: GuardConnection, message: dict[str, Any]) -> bool:
        """Takes a report; returns whether it is the last one."""
        if guard.state is None:
            guard.state = self._states[message["rank"]] = RankState(message["rank"], message["host"])
            if self.failure is not None or self.ending or self._asked is not None:
                guard.send(command=self._asked if self.failure is None and not self.ending else END)
        state = guard.state
        state.stopped_s, state.age_s = message["stopped_s"], message["age_s"]
        state.iteration, state.action = message["iteration"], message["action"]
        if "ended" not in message:
            return False
        state.ended = int(message["ended"])
        if state.ended and not (message["by_signal"] and message["told"]):
            self._fail(state.ended, death(state) if message["by_signal"] else None)
        # The launcher would end the others as soon as the guard of the first one that leaves has ended.
        return state.ended == 0 or self.failure is None

    def _lose(self, state: RankState, why: str) -> None:
        if state.ended is None:
            state.ended = LOST
            self._fail(LOST, lost(state, why))

    def _lose_silent(self, guard: GuardConnection) -> None:
        assert guard.state is not None
        self._close(guard)
        guard.state.silent = True
        self._lose(guard.state, f"its host has not been heard of for {min(guard.silent_s, _SILENCE_S):.0f} s")

    def _fail(self, code: int, reason: str | None) -> None:
        """Ends the job: the first failure is its cause, all others follow from it."""
        if self.failure is not None or self.ending:
            return
        self.failure = Failure(code, reason)
        if reason is not None:
            self._say(f"launch: {reason}")
        self._end_at_s = time.monotonic() + (_LEAVE_WITHIN_S if code == PREEMPTED and reason is None else 0)
        self._let_go_at_s = self._end_at_s + _LET_GO_AFTER_S
        self._end_launcher_at_s = self._end_at_s + _LAUNCHER_ENDS_WITHIN_S
        self._end_ranks(time.monotonic())

    def _end_ranks(self, now_s: float) -> None:
        """Ends the ranks when it is time, and lets their guards go together: the first would take the others along."""
        end, of_all = now_s >= self._end_at_s, self._states.values()
        let_go = now_s >= self._let_go_at_s or all(state.ended is not None for state in of_all)
        self._end_at_s = float("inf") if end else self._end_at_s
        if let_go and self.silent_ranks:
            self._end_launcher_at_s = min(self._end_launcher_at_s, now_s + _LAUNCHER_WAITS_FOR_LOST_HOST_S)
        for guard in list(self._guards.values()):
            if guard.state is not None and guard.state.ended is not None and let_go:
                self._close(guard)
            elif guard.state is not None and guard.state.ended is None and end:
                guard.send(command=END)

    def _look(self, now_s: float) -> None:
        """Looks for ranks that are lost, stand still or are slow."""
        for guard in list(self._guards.values()):
            if guard.state is None and now_s - guard.opened_s > _UNKNOWN_FOR_S:
                self._close(guard)
            elif guard.state is not None and not self._local and guard.silent_s > _SILENCE_S:
                self._lose_silent(guard)
        if now_s > self._end_launcher_at_s and self._launcher is not None:  # it waits for a host that is gone, perhaps
            self._launcher.send_signal(signal.SIGKILL if self._launcher_was_asked else signal.SIGTERM)
            self._launcher_was_asked = True
            self._end_launcher_at_s = now_s + _LAUNCHER_ENDS_WITHIN_S
        if self.failure is not None:
            self._end_ranks(now_s)
        states = list(self._states.values())
        if self.failure is not None or self.ending:
            return
        if not states:
            if self._timeouts_s[0] and now_s - self._began_s > max(self._timeouts_s):
                self._fail(STALLED, f"no process began in {max(self._timeouts_s):g} s; if slow, raise --start-timeout")
            return
        if (held_up := stall(states, *self._timeouts_s)) is not None:
            ended = f"the job is ended after --stall-timeout {self._timeouts_s[0]:g} s"
            self._fail(STALLED, f"stalled: {held_up}; {ended} (raise it, or start again with --max-restarts)")
        else:
            self._warn_of_slow(states, now_s)

    def _warn_of_slow(self, states: list[RankState], now_s: float) -> None:
        iterations = [state.iteration for state in states if state.iteration is not None]
        if iterations:
            self._pace.see(min(iterations), now_s)
        usual_s = self._pace.usual_s
        slowest = None if usual_s is None else slow(states, usual_s)
        if slowest is None or now_s - self._warned_s.get(slowest.rank, float("-inf")) < _WARN_AGAIN_S:
            return
        self._warned_s[slowest.rank] = now_s
        self._say(f"warning: {slowest.late}; an iteration takes {usual_s:.2g} s otherwise")
