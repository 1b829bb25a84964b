"""The network interfaces of this host, by the standard library alone.

Run as a program, which Slurm starts on each node of a job, it prints the node's name and its interfaces as JSON.
"""

import fcntl
import json
import os
import socket
import struct

# <linux/sockios.h>, <linux/if.h>: a struct ifreq is 16 bytes of a name, then the answer.
_SIOCGIFFLAGS, _SIOCGIFADDR = 0x8913, 0x8915
_UP_AND_RUNNING = 0x1 | 0x40
_NAME_BYTES, _REQUEST_BYTES = 16, 40


def addresses() -> dict[str, str]:
    """The interfaces that can be used.

    Returns:
        The IPv4 address of each one that is up, by its name; the first address where it has several.

    Example:
        >>> addresses()["lo"]
        '127.0.0.1'
    """
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            request = os.fsencode(name).ljust(_REQUEST_BYTES, b"\0")
            try:
                (flags,) = struct.unpack_from("H", fcntl.ioctl(asking, _SIOCGIFFLAGS, request), _NAME_BYTES)
                address = fcntl.ioctl(asking, _SIOCGIFADDR, request)[_NAME_BYTES + 4 : _NAME_BYTES + 8]
            except OSError:
                continue  # it has no IPv4 address, or is gone
            if flags & _UP_AND_RUNNING == _UP_AND_RUNNING:
                found[name] = socket.inet_ntoa(address)
    return found


if __name__ == "__main__":
    print(json.dumps([os.environ.get("SLURMD_NODENAME", os.uname().nodename), addresses()]))
