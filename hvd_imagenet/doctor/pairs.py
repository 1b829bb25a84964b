"""Latency and bandwidth between each two hosts, through MPI: the program of one process a host.

It prints a JSON line for each pair as soon as that is measured, so that a connection that hangs leaves a gap.
"""

import json
import os
import signal
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mpi4py import MPI

_SMALL_BYTES = 8
_LARGE_BYTES = 4 << 20
_NAME_BYTES = 256
_LOOK_EVERY_S = 0.001
# Long enough for TCP to open its window over a long way, and short enough for a hundred hosts.
HALF_PAIR_S = 0.25
_FEWEST, _MOST = 3, 1000


def rounds(size: int) -> list[list[tuple[int, int]]]:
    """Pairs everyone with everyone, so that nobody is in two pairs of a round: the circle method for tournaments.

    Args:
        size: number of processes.

    Returns:
        For each round its pairs, the smaller rank first.

    Example:
        >>> rounds(4)
        [[(0, 3), (1, 2)], [(0, 2), (1, 3)], [(0, 1), (2, 3)]]
        >>> rounds(3)
        [[(1, 2)], [(0, 2)], [(0, 1)]]
    """
    even = size + size % 2
    circle = list(range(1, even))
    found = []
    for _ in range(even - 1):
        players = [0, *circle]
        facing = zip(players[: even // 2], reversed(players[even // 2 :]), strict=True)
        found.append(sorted((min(pair), max(pair)) for pair in facing if max(pair) < size))
        circle = circle[-1:] + circle[:-1]
    return found


def _there_and_back_s(world: "MPI.Comm", other: int, first: bool, buffer: np.ndarray, times: int) -> float:
    """Sends a buffer there and back; the median time, which does not see what else a host does now and then."""
    taken_s = []
    for _ in range(times):
        began_s = time.perf_counter()
        if first:
            world.Send(buffer, other)
            world.Recv(buffer, other)
        else:
            world.Recv(buffer, other)
            world.Send(buffer, other)
        taken_s.append(time.perf_counter() - began_s)
    return statistics.median(taken_s)


def _one_way_s(world: "MPI.Comm", other: int, first: bool, buffer: np.ndarray) -> float:
    """The time of one message, one way: the first of a pair decides how many there are."""
    _there_and_back_s(world, other, first, buffer, 1)  # makes the connection
    estimate_s = _there_and_back_s(world, other, first, buffer, 1)
    times = np.array([min(_MOST, max(_FEWEST, int(HALF_PAIR_S / estimate_s)))], dtype=np.int64)
    if first:
        world.Send(times, other)
    else:
        world.Recv(times, other)
    return _there_and_back_s(world, other, first, buffer, int(times[0])) / 2


def measure(world: "MPI.Comm", other: int) -> dict[str, Any]:
    """Measures the way between this process and another.

    Args:
        world: of one process a host.
        other: the other's rank; it measures this one at the same time.

    Returns:
        The names that both hosts have for themselves, seconds a small message, bytes a second of large ones.
    """
    first = world.rank < other
    own, its = np.zeros(_NAME_BYTES, dtype=np.uint8), np.zeros(_NAME_BYTES, dtype=np.uint8)
    name = os.uname().nodename.encode()[:_NAME_BYTES]
    own[: len(name)] = bytearray(name)
    sent = world.Isend(own, other)
    # While it waits for a partner that measures another pair, MPI itself would take a core away from someone.
    while not world.Iprobe(source=other):
        time.sleep(_LOOK_EVERY_S)
    world.Recv(its, other)
    sent.Wait()
    latency_s = _one_way_s(world, other, first, np.zeros(_SMALL_BYTES, dtype=np.uint8))
    large_s = _one_way_s(world, other, first, np.zeros(_LARGE_BYTES, dtype=np.uint8))
    nodes = [bytes(each).rstrip(b"\0").decode() for each in (own, its)]
    return {"nodes": nodes, "latency_s": latency_s, "bytes_per_s": _LARGE_BYTES / large_s}


def main() -> None:
    """Measures this process's pairs; the first of each prints it."""
    # Each process ends itself: nothing stays on any host when connections hang or the others are gone.
    signal.alarm(int(sys.argv[1]))
    from mpi4py import MPI  # late: importing it starts MPI

    world = MPI.COMM_WORLD
    for pairs in rounds(world.size):
        for pair in pairs:
            if world.rank in pair:
                found = measure(world, sum(pair) - world.rank)
                if world.rank == min(pair):
                    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
