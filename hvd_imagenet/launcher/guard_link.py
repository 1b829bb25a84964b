"""A guard's connection to the monitor."""

import contextlib
import errno
import os
import socket
import time
from typing import Any

from hvd_imagenet.launcher.messages import Channel, Forged

END = 0
"""The command to end the rank; others are signals for it."""
CONNECT_WITHIN_S = 30.0
SILENCE_S = 30.0
"""A guard on another host that hears nothing for so long is cut off from `launch`."""

_ATTEMPT_S = 5.0
# Longer than the monitor lets ranks leave together.
_ACKNOWLEDGED_WITHIN_S = 40.0


class Link:
    """Finds the monitor, tells it things and takes its commands; once it has lost it, the command is END.

    Args:
        address: ADDRESS:PORT of the monitor.
        secret: of the job.
        rank: of the guarded process.
    """

    def __init__(self, address: str, secret: bytes, rank: int) -> None:
        host, _, port = address.rpartition(":")
        self._address, self._rank = (host, int(port)), rank
        self._channel = Channel(secret, "guard")
        self._socket: socket.socket | None = None
        self._outgoing = b""
        self._lost = False
        self._give_up_at_s = time.monotonic() + CONNECT_WITHIN_S
        self._heard_s = time.monotonic()
        self._connect()

    def _connect(self) -> None:
        try:
            self._socket = socket.create_connection(self._address, timeout=_ATTEMPT_S)
        except OSError as error:
            refused = self._address[0].startswith("127.") and error.errno == errno.ECONNREFUSED
            if refused or time.monotonic() > self._give_up_at_s:
                where = f"{self._address[0]}:{self._address[1]}"
                remedy = "open the firewall between the hosts, or choose another network with --network-interface"
                self._lose(f"cannot reach launch at {where} ({error}); {remedy}")
            return
        self._socket.setblocking(False)
        self._outgoing = self._channel.greeting
        self._heard_s = time.monotonic()
        self._flush()

    @property
    def readable(self) -> list[int]:
        """Descriptors that a `select` should wait for."""
        return [] if self._socket is None or self._lost else [self._socket.fileno()]

    def _lose(self, reason: str = "") -> None:
        """The job cannot be watched any more, or is over."""
        if reason and not self._lost:
            line = f"launch: the guard of rank {self._rank} on {os.uname().nodename} {reason}; it ends the rank\n"
            with contextlib.suppress(OSError):
                os.write(2, line.encode())
        self._lost = True

    def tell(self, **message: Any) -> bool:
        """Sends a report, unless an earlier one has not gone out yet.

        Args:
            message: plain JSON data.

        Returns:
            Whether it was sent.
        """
        if self._socket is None and not self._lost:
            self._connect()
        free = self._socket is not None and self._channel.ready and not self._outgoing
        if free:
            self._outgoing = self._channel.send(rank=self._rank, host=os.uname().nodename, **message)
        self._flush()
        return free

    def _flush(self) -> None:
        if self._socket is None or self._lost:
            return
        try:
            self._outgoing = self._outgoing[self._socket.send(self._outgoing) :]
        except BlockingIOError:
            pass
        except OSError:
            self._lose()

    def commands(self) -> list[int]:
        """What the monitor wants now.

        Returns:
            Signals for the rank, or END.
        """
        if self._lost:
            return [END]
        if self._socket is None:
            return []
        found: list[int] = []
        try:
            while data := self._socket.recv(4096):
                self._heard_s = time.monotonic()
                found += [int(message["command"]) for message in self._channel.receive(data) if "command" in message]
            self._lose()  # launch has ended
        except BlockingIOError:
            pass
        except (OSError, Forged):
            self._lose()
        # A silent launch on this very host has been stopped, and may go on.
        elsewhere = not self._address[0].startswith("127.")
        if elsewhere and time.monotonic() - self._heard_s > SILENCE_S:
            self._lose(f"has not heard of launch for {SILENCE_S:.0f} s")
        return found

    def tell_end(self, **message: Any) -> None:
        """Sends the last report, and waits until the monitor has noted it and this guard may end.

        Args:
            message: plain JSON data.
        """
        if self._socket is None or self._lost:
            return
        try:
            self._socket.settimeout(_ACKNOWLEDGED_WITHIN_S)
            while not self._channel.ready:
                self._channel.receive(self._socket.recv(4096) or b"\n")
            last = self._channel.send(rank=self._rank, host=os.uname().nodename, **message)
            self._socket.sendall(self._outgoing + last)
            while self._socket.recv(4096):
                pass
        except (OSError, Forged):
            pass
