import pytest

from hvd_imagenet.launcher.messages import Channel, Forged

SECRET = b"s" * 32


def pair(secret: bytes = SECRET) -> tuple[Channel, Channel]:
    guard, monitor = Channel(SECRET, "guard"), Channel(secret, "monitor")
    assert not guard.ready
    assert guard.receive(monitor.greeting) == []
    assert monitor.receive(guard.greeting) == []
    assert guard.ready
    return guard, monitor


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_messages_arrive_in_their_order_however_they_are_cut(size: int) -> None:
    guard, monitor = pair()
    data = guard.send(rank=1, action="a\nb") + guard.send(rank=2)
    found = [each for start in range(0, len(data), size) for each in monitor.receive(data[start : start + size])]
    assert found == [{"rank": 1, "action": "a\nb"}, {"rank": 2}]
    assert guard.receive(monitor.send(command=15)) == [{"command": 15}]


def forged_lines() -> dict[str, tuple[Channel, bytes]]:
    """What somebody without the secret could send: the receiver, and the bytes."""
    cases = {}
    guard, monitor = pair(b"x" * 32)
    cases["another secret"] = monitor, guard.send(rank=1)
    guard, monitor = pair()
    line = guard.send(rank=1)
    monitor.receive(line)
    cases["a repeated line"] = monitor, line
    guard, monitor = pair()
    guard.send(rank=1)
    cases["a line left out"] = monitor, guard.send(rank=2)
    guard, monitor = pair()
    cases["a line sent back"] = guard, guard.send(rank=1)
    guard, monitor = pair()
    cases["a changed text"] = monitor, guard.send(rank=1).replace(b"1}", b"2}")
    _, monitor = pair()
    cases["no authentication"] = monitor, b'{"rank": 1}\n'
    cases["no greeting"] = Channel(SECRET, "monitor"), b"PUT /x HTTP/1.1\r\n"
    cases["no end of line"] = Channel(SECRET, "monitor"), b"x" * 5000
    guard, monitor = pair()
    other = pair()[1]
    cases["a line of another connection"] = other, guard.send(rank=1)
    return cases


@pytest.mark.parametrize(("channel", "data"), forged_lines().values(), ids=forged_lines().keys())
def test_what_does_not_come_from_the_job_is_refused(channel: Channel, data: bytes) -> None:
    with pytest.raises(Forged):
        channel.receive(data)
