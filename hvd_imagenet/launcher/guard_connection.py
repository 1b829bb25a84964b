"""The monitor's side of a connection with a guard."""

import socket
import time
from collections.abc import Iterable
from typing import Any

from hvd_imagenet.launcher.messages import Channel, Forged
from hvd_imagenet.launcher.stalls import RankState


class GuardConnection:
    """A connection that claims to be a guard's, until its first message shows that it is.

    Args:
        connection: that was accepted.
        secret: of the job.
        now_s: of the monotonic clock.

    Attributes:
        opened_s: when it was accepted.
        heard_s: when the last bytes came.
        state: of the rank; None before the first message.
    """

    def __init__(self, connection: socket.socket, secret: bytes, now_s: float) -> None:
        self.socket, self.opened_s, self.heard_s = connection, now_s, now_s
        self.channel = Channel(secret, "monitor")
        self.state: RankState | None = None
        connection.setblocking(False)
        self.write(self.channel.greeting)

    @property
    def silent_s(self) -> float:
        """For how long nothing has been heard."""
        return time.monotonic() - self.heard_s

    def send(self, **message: Any) -> None:
        """Sends a message, once the guard has greeted."""
        if self.channel.ready:
            self.write(self.channel.send(**message))

    def receive(self) -> tuple[list[dict[str, Any]], bool]:
        """The messages that have come, and whether more can come: not from a stranger, and not after the end."""
        try:
            data = self.socket.recv(65536)
            messages = self.channel.receive(data)
        except BlockingIOError:
            return [], True
        except (OSError, Forged):
            return [], False
        self.heard_s = time.monotonic()
        return messages, bool(data)

    def write(self, data: bytes) -> None:
        """Sends a few bytes; a connection that does not take them is as good as lost."""
        try:
            self.socket.send(data)
        except OSError:
            self.opened_s = self.heard_s = float("-inf")


def longest_silent(guards: Iterable[GuardConnection], than_s: float) -> GuardConnection | None:
    """The guard of a running rank that has been silent for longest.

    Args:
        guards: to look among.
        than_s: for how long it must have been.

    Returns:
        None if all were heard of lately.

    Example:
        >>> longest_silent([], than_s=5.0) is None
        True
    """
    running = [each for each in guards if each.state is not None and each.state.ended is None]
    silent = [each for each in running if each.silent_s > than_s]
    return max(silent, key=lambda each: each.silent_s, default=None)
