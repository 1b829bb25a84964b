"""The hosts of the scaling lab, their links, and the jobs that run on them."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from scaling_lab_points import (
    MESSAGES_AT_ONCE,
    MESSAGES_CYCLE_S,
    MESSAGES_ROUNDS,
    SEGMENTS,
    Messages,
    Setting,
    messages_of,
    scaled,
)

from hvd_imagenet.planner.asked import bits_per_s

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "cluster"))
import network

RANK = str(Path(__file__).with_name("scaling_lab_rank.py"))
BIN = Path(sys.executable).parent
HOSTS = 4
# A link lets so much pass at once after a pause: one group of packets.
BURST_BYTES, QUEUE_BYTES = 8192, 1 << 20
UNSHAPED_MEGABITS_PER_S = 10_000.0
DELAY_LINE_NICENESS = -10
JOB_TIMEOUT_S = 600


class JobFailed(Exception):
    """A job of ranks ended without a result."""


@dataclass(frozen=True)
class Way:
    """What is done to the ways between hosts, and how Horovod is set, in the lab's time and sizes.

    Args:
        bits_per_s: of each link; None leaves them as fast as they are.
        delay_s: of each frame.
        cycle_ms: Horovod's.
        fusion_mb: its threshold.
    """

    bits_per_s: float | None
    delay_s: float
    cycle_ms: float
    fusion_mb: float


class Lab:
    """Runs jobs of ranks on the hosts.

    Args:
        cluster: the hosts; None where all ranks are on this machine.
    """

    def __init__(self, cluster: network.Cluster | None) -> None:
        self.cluster = cluster
        self._shaped: tuple[float | None, float] = (None, 0.0)
        for host in cluster.hosts if cluster is not None else ():
            # So that packets come at the link's pace, not 64 kB of them at once.
            words = ["ip", "link", "set", "dev", network.INTERFACE, "gso_max_segs", str(SEGMENTS)]
            _run(host.command(words))

    def steps(
        self, setting: Setting, factor: float, unmeasured: int, measured: int, timeline: Path | None = None
    ) -> dict[str, Any]:
        """Seconds of the steps of a setting, and how busy the cores were."""
        profile = scaled(setting.profile, factor, setting.ranks)
        job = {
            "layers": [[layer.tensors, layer.forward_s, layer.backward_s] for layer in profile.layers],
            **{"other_s": profile.other_s, "spread": setting.spread},
            **{"unmeasured": unmeasured, "steps": measured},
        }
        delay_s = 1e-6 * setting.latency_us * factor
        rate = bits_per_s(setting.link) / factor**2
        way = Way(rate, delay_s, setting.cycle_ms * factor, setting.fusion_mb / factor)
        return self._job(setting, way, job, timeline)

    def messages(self, setting: Setting, factor: float) -> Messages:
        """What the ranks of a setting need for a short message, on links that are late but fast."""
        job = {"rounds": MESSAGES_ROUNDS, "at_once": MESSAGES_AT_ONCE}
        way = Way(None, 1e-6 * setting.latency_us * factor, 1e3 * MESSAGES_CYCLE_S, 0.0)
        return messages_of(self._job(setting, way, job), setting)

    def _job(self, setting: Setting, way: Way, job: dict[str, Any], timeline: Path | None = None) -> dict[str, Any]:
        """What rank 0 of a job found."""
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "result"
            (Path(folder) / "job").write_text(json.dumps(job))
            words = launch_words(setting, way, timeline, on_hosts=self.cluster is not None)
            command = [*words, "--", sys.executable, RANK, f"{folder}/job", str(result)]
            if self.cluster is not None:
                self._shape(way.bits_per_s, way.delay_s)
                command = self.cluster.hosts[0].command(command)
            done = subprocess.run(
                command, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=JOB_TIMEOUT_S,
            )  # fmt: skip
            if done.returncode or not result.exists():
                self._clear()
                raise JobFailed(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
            found: dict[str, Any] = json.loads(result.read_text())
            return found

    def _clear(self) -> None:
        """Leaves no process of a job that failed on the hosts; the switch is none of theirs."""
        for process in self.cluster.processes() if self.cluster is not None else ():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _shape(self, bits: float | None, delay_s: float) -> None:
        """Gives every host's link its rate and delay; what a host receives is shaped where it is sent."""
        assert self.cluster is not None
        if (bits, delay_s) == self._shaped:
            return
        self.cluster.unshape()
        if delay_s > 0:
            self.cluster.shape(UNSHAPED_MEGABITS_PER_S, delay_s)
            _hurry_the_delay_line()
        for host in self.cluster.hosts:
            if bits is not None:
                rate = ["rate", f"{bits:.0f}bit", "burst", str(BURST_BYTES), "limit", str(QUEUE_BYTES)]
                _run(host.command(["tc", "qdisc", "replace", "dev", network.INTERFACE, "root", "tbf", *rate]))
            elif delay_s > 0:
                _run(host.command(["tc", "qdisc", "del", "dev", network.INTERFACE, "root"]))
        self._shaped = (bits, delay_s)


def launch_words(setting: Setting, way: Way, timeline: Path | None, on_hosts: bool) -> list[str]:
    """How the job is launched."""
    words = ["hvd-imagenet", "launch", "--launcher"]
    if setting.over == "gloo":
        words += ["horovodrun"]
    else:
        words += ["mpirun", "--allreduce-algorithm", setting.over]
    words += ["--cycle-time-ms", f"{way.cycle_ms:g}", "--fusion-threshold-mb", f"{way.fusion_mb:g}"]
    if timeline is not None:
        words += ["--timeline", str(timeline)]
    if not on_hosts:
        return [*words, "-np", str(setting.ranks)]
    listed = ",".join(f"node{number}:{setting.per_host}" for number in range(1, setting.hosts + 1))
    return [*words, "-H", listed, "--network-interface", network.INTERFACE]


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(BIN), os.environ["PATH"], "/usr/sbin", "/sbin"])
    own = {"PATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HOROVOD_TIMELINE_MARK_CYCLES": "1"}
    return {**os.environ, **own}


def _run(command: list[str]) -> None:
    """Runs a command, and raises with what it says unless it succeeds."""
    done = subprocess.run(command, capture_output=True, text=True, env=_environment())
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def _hurry_the_delay_line() -> None:
    """It is this lab's switch, which must not wait for ranks that compute or poll."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any("delay_line.py" in word for word in child.cmdline()):
                child.nice(DELAY_LINE_NICENESS)


@contextlib.contextmanager
def hosts() -> Iterator[network.Cluster]:
    """The hosts in namespaces."""
    if reason := network.why_not():
        raise SystemExit(f"error: {reason}")
    if missing := network.missing_packages():
        raise SystemExit(f"error: install {' '.join(missing)}, as `make test-cluster` does")
    network.NAMES = tuple(f"node{number}" for number in range(1, HOSTS + 1))
    with tempfile.TemporaryDirectory() as folder, network.Cluster(Path(folder)) as cluster:
        yield cluster


def reduce_s_per_byte() -> float:
    """How fast a core adds numbers."""
    numbers, times_s = np.ones(1 << 20, np.float32), []
    for _ in range(20):
        begin_s = time.perf_counter()
        np.add(numbers, numbers, out=numbers)
        times_s.append(time.perf_counter() - begin_s)
    return statistics.median(times_s) / numbers.nbytes
