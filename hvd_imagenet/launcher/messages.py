"""What guards and the monitor tell each other: JSON lines over TCP, each authenticated with the job's secret.

Every line carries an HMAC-SHA-256 over the nonces of both ends, the direction, the line's number and the text, so that
nothing can be forged, repeated, left out or sent back. Nothing of a line is looked at before that was checked.
"""

import hmac
import json
import os
from typing import Any

_MAC_DIGITS = 64
_NONCE_DIGITS = 32
_LONGEST_LINE = 4096


class Forged(Exception):
    """A line that does not come from the job."""


class Channel:
    """One end of a connection: makes the bytes to send, and takes apart those that have come.

    Args:
        secret: of the job.
        sends: the direction of what this end sends, `guard` or `monitor`.

    Example:
        >>> guard, monitor = Channel(b"secret", "guard"), Channel(b"secret", "monitor")
        >>> _, _ = guard.receive(monitor.greeting), monitor.receive(guard.greeting)
        >>> monitor.receive(guard.send(rank=3))
        [{'rank': 3}]
    """

    def __init__(self, secret: bytes, sends: str) -> None:
        nonce = os.urandom(_NONCE_DIGITS // 2).hex()
        self.greeting = nonce.encode() + b"\n"
        self._secret, self._sends = secret, sends
        self._nonces: dict[str, str] = {sends: nonce}
        self._receives = "guard" if sends == "monitor" else "monitor"
        self._numbers = {"guard": 0, "monitor": 0}
        self._rest = b""

    @property
    def ready(self) -> bool:
        """Whether the other end's nonce has come, so that `send` may be called."""
        return self._receives in self._nonces

    def _mac(self, direction: str, text: bytes) -> bytes:
        self._numbers[direction] += 1
        head = f"{self._nonces['guard']} {self._nonces['monitor']} {direction} {self._numbers[direction]} "
        return hmac.digest(self._secret, head.encode() + text, "sha256").hex().encode()

    def send(self, **message: Any) -> bytes:
        """The line of a message.

        Args:
            message: plain JSON data.

        Returns:
            Bytes to send, in the order in which they were made.
        """
        text = json.dumps(message).encode()
        return self._mac(self._sends, text) + b" " + text + b"\n"

    def receive(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that have come in whole.

        Args:
            data: further bytes of the connection.

        Returns:
            The messages in their order.

        Raises:
            Forged: the bytes do not come from an end with the secret; the connection is to be closed.
        """
        self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            raise Forged
        return [message for message in map(self._open, lines) if message is not None]

    def _open(self, line: bytes) -> dict[str, Any] | None:
        if not self.ready:
            if len(line) != _NONCE_DIGITS or not line.isalnum():
                raise Forged
            self._nonces[self._receives] = line.decode()
            return None
        mac, text = line[:_MAC_DIGITS], line[_MAC_DIGITS + 1 :]
        if not hmac.compare_digest(mac, self._mac(self._receives, text)):
            raise Forged
        message = json.loads(text)
        assert isinstance(message, dict)
        return message
