"""A switch that keeps every frame for a while: `tc` could do it too, but not every kernel has its netem.

Run as a program: DELAY_S LINK…, in the network that has the links.
"""

import heapq
import itertools
import select
import socket
import sys
import time

_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 263, 15, 23
_SO_RCVBUFFORCE, _ALL_PROTOCOLS = 33, 3
# Before each frame the kernel tells how it is to be cut into packets and where its checksum goes, so that frames are
# as large as the senders made them, and few.
_HEADER_BYTES = 10
_LARGEST_BYTES = 1 << 17


def open_link(name: str) -> socket.socket:
    """All frames that come in by a link."""
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    link.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    link.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    link.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
    link.bind((name, _ALL_PROTOCOLS))
    return link


def receivers(frame: bytes, came_by: socket.socket, links: list[socket.socket], known: dict[bytes, socket.socket]):
    """The links that a frame goes to: its addressee's if that is known, else all others."""
    addressee, sender = frame[_HEADER_BYTES : _HEADER_BYTES + 6], frame[_HEADER_BYTES + 6 : _HEADER_BYTES + 12]
    known[sender] = came_by
    if addressee in known:
        return [known[addressee]]
    return [link for link in links if link is not came_by]


def main(delay_s: float, names: list[str]) -> None:
    links, known, count = [open_link(name) for name in names], {}, itertools.count()
    kept: list[tuple[float, int, bytes, list[socket.socket]]] = []
    print("ready", flush=True)
    while True:
        pause_s = max(0.0, kept[0][0] - time.monotonic()) if kept else None
        for link in select.select(links, [], [], pause_s)[0]:
            frame = link.recv(_LARGEST_BYTES)
            due_s = time.monotonic() + delay_s
            heapq.heappush(kept, (due_s, next(count), frame, receivers(frame, link, links, known)))
        while kept and kept[0][0] <= time.monotonic():
            _, _, frame, others = heapq.heappop(kept)
            for other in others:
                other.send(frame)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
