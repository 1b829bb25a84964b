"""Where a secret must not be seen: on command lines, in the environment of processes, in what a job prints."""

import threading
from collections.abc import Iterable, Iterator

import psutil
import pytest

from hvd_imagenet.launcher.environment import SECRET_VARIABLE
from hvd_imagenet.launcher.job_secret import VARIABLE


class Watch(threading.Thread):
    """Collects the command lines of all processes that come of this one, short-lived ones as well as it can."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self.over = threading.Event()

    def run(self) -> None:
        own = psutil.Process()
        while not self.over.wait(0.02):
            for one in own.children(recursive=True):
                try:
                    self.seen.add(" ".join(one.cmdline()))
                except psutil.Error:
                    continue


@pytest.fixture
def command_lines() -> Iterator[Watch]:
    watch = Watch()
    watch.start()
    yield watch
    watch.over.set()
    watch.join()


def variables_of(process: psutil.Process) -> dict[str, str]:
    """The environment that a process was started with; none of one that has ended, as a shell of horovodrun's."""
    try:
        return dict(process.environ())
    except (psutil.Error, OSError):
        return {}


def secrets_of(processes: Iterable[psutil.Process], launcher: str) -> set[str]:
    """The secrets of a job, which its processes have in their environment, and what is made from them.

    Args:
        processes: of the job.
        launcher: horovodrun's ranks have Horovod's alone, those of `launch` have guards that know the monitor's.
    """
    from horovod.runner.common.util import codec, secret

    of_processes = [variables_of(one) for one in processes]
    horovods, monitors = ({each[name] for each in of_processes if name in each} for name in (VARIABLE, SECRET_VARIABLE))
    assert horovods
    assert bool(monitors) == launcher.startswith("launch")
    keys = [codec.loads_base64(text) for text in horovods]
    return horovods | monitors | {secret.rendezvous_token(key) for key in keys} | {key.hex() for key in keys}


def assert_nowhere(secrets: Iterable[str], watch: Watch, *printed: str) -> None:
    """No command line has a secret, nor has what was printed."""
    assert len(watch.seen) > 2, "no command line was seen"
    for one in secrets:
        assert not [line for line in watch.seen if one in line]
        assert not [text for text in printed if one in text]
