"""Do steps take as long as the planner says? Up to 16 ranks on 4 hosts whose devices are clocks, and real all else.

Each rank waits for as long as a P100 computes (scaling_lab_rank.py) and reduces real tensors with the real optimizer
over Horovod and Gloo, between hosts in network namespaces whose links `tc` makes slow. So that two cores can serve all
ranks, times are --factor as long as a P100's and tensors as much smaller; a link of 43 Gbit/s becomes one of 43 Gbit/s
/ factor², and Horovod's cycle time and fusion threshold are scaled alike. Overlap, fusion and negotiation are real.

What the planner needs beside the P100's profile is fixed before the first point: the rate of the links, as `tc` is
told it, 1,448 of whose 1,514 bytes are payload; the latency of a message, from two ranks that reduce one number; and
how fast a core adds numbers. As root:

    python benchmarks/scaling_lab.py --json benchmarks/results/scaling_lab.json

A point that the file has is not measured again. All of them take half an hour. With 16 ranks most of what the cores do
is to agree once a cycle, around the ring: some 10 ms of them each time.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scaling_lab_points import FULL, QUICK, Setting, line, predicted_s, row, scaled, summary
from step_overhead import provenance

from hvd_imagenet.planner.asked import bits_per_s
from hvd_imagenet.planner.profile import Profile, load_profile

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "cluster"))
import network

RANK = str(Path(__file__).with_name("scaling_lab_rank.py"))
BIN = Path(sys.executable).parent
HOSTS = 4
MESSAGES, MESSAGES_CYCLE_MS = 200, 0.1
START_S = 30.0  # of a job, for the time that is left


@dataclass(frozen=True)
class Lab:
    """What holds for all points.

    Args:
        factor: by which times are longer and tensors smaller.
        unmeasured: steps before the measured ones.
        steps: measured.
        cluster: the hosts; None where all ranks are on this machine.
    """

    factor: float
    unmeasured: int
    steps: int
    cluster: network.Cluster | None

    def run(self, setting: Setting, job: dict[str, Any]) -> dict[str, Any]:
        """What rank 0 of a job found."""
        with tempfile.TemporaryDirectory() as folder:
            words, result = self._words(setting), Path(folder) / "result"
            (Path(folder) / "job").write_text(json.dumps(job))
            command = [*words, "--", sys.executable, RANK, f"{folder}/job", str(result)]
            if self.cluster is not None:
                self._shape(setting)
                command = self.cluster.hosts[0].command(command)
            path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
            environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1800
            )
            if done.returncode or not result.exists():
                raise RuntimeError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
            found: dict[str, Any] = json.loads(result.read_text())
            return found

    def _words(self, setting: Setting) -> list[str]:
        """How the job is launched."""
        words = ["hvd-imagenet", "launch", "--launcher", "horovodrun", "--cycle-time-ms"]
        words += [
            f"{setting.cycle_ms * self.factor:g}",
            "--fusion-threshold-mb",
            f"{setting.fusion_mb / self.factor:g}",
        ]
        if self.cluster is None:
            return [*words, "-np", str(setting.ranks)]
        listed = ",".join(f"{host.name}:{setting.per_host}" for host in self.cluster.hosts[: setting.hosts])
        return [*words, "-H", listed, "--network-interface", network.INTERFACE]

    def _shape(self, setting: Setting) -> None:
        """Gives every host's link its rate; what a host receives is shaped where it is sent."""
        assert self.cluster is not None
        rate = f"{bits_per_s(setting.link) / self.factor**2:.0f}bit"
        for host in self.cluster.hosts:
            words = ["tc", "qdisc", "replace", "dev", network.INTERFACE, "root", "tbf"]
            words += ["rate", rate, "burst", "128kb", "latency", "200ms"]
            subprocess.run(host.command(words), check=True)

    def measure(self, setting: Setting, profile: Profile) -> dict[str, Any]:
        """Seconds of the steps of a setting."""
        layers = [[layer.tensors, layer.forward_s, layer.backward_s] for layer in profile.layers]
        job = {"layers": layers, "other_s": profile.other_s, "spread": setting.spread}
        return self.run(setting, job | {"unmeasured": self.unmeasured, "steps": self.steps})

    def calibrate(self) -> dict[str, float]:
        """What the planner needs to know of this machine, before any point is measured."""
        found = self.run(
            Setting(1 if self.cluster is None else 2, 2 if self.cluster is None else 1, cycle_ms=0.1 / self.factor),
            {"messages": MESSAGES},
        )
        # Two ranks: two messages one after another to agree, and two to reduce; half a cycle before. What else runs on
        # the machine only makes it longer.
        lower_quartile_s = statistics.quantiles(found["seconds"], n=4)[0]
        latency_s = (lower_quartile_s - 0.5e-3 * MESSAGES_CYCLE_MS) / 4
        numbers, times_s = np.ones(1 << 20, np.float32), []
        for _ in range(20):
            begin_s = time.perf_counter()
            np.add(numbers, numbers, out=numbers)
            times_s.append(time.perf_counter() - begin_s)
        return {"latency_s": max(1e-6, latency_s), "reduce_s_per_byte": statistics.median(times_s) / numbers.nbytes}


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


def time_left(settings: list[Setting], lab: Lab, profile: Profile) -> str:
    steps_s = (lab.unmeasured + lab.steps) * sum(predicted_s(each, profile, lab.factor) for each in settings)
    return f"{len(settings)} points left, {(steps_s + START_S * len(settings)) / 60:.0f} min"


def study(
    settings: list[Setting], lab: Lab, profile: Profile, path: Path | None, most: int | None = None
) -> dict[str, Any]:
    """Measures what the file does not have, or the first so many of it, and writes the file after each point."""
    old = json.loads(path.read_text()) if path is not None and path.exists() else {}
    here: dict[str, Any] = {"device": profile.device, "model": profile.model, "factor": lab.factor, "steps": lab.steps}
    same = all(old.get(name) == value for name, value in here.items())
    points = old["points"] if same else []
    calibration = old["calibration"] if same else lab.calibrate()
    slowed = scaled(profile, lab.factor, calibration)
    asked = [asdict(setting) for setting in settings]
    measured = [{name: point[name] for name in asked[0]} for point in points]
    left = [setting for setting in settings if asdict(setting) not in measured][:most]
    found: dict[str, Any] = {}
    for number, setting in enumerate([None, *left]):
        if setting is not None:
            print(time_left(left[number - 1 :], lab, slowed), flush=True)
            points.append(row(setting, lab.measure(setting, slowed), slowed, lab.factor))
            print(line(points[-1]), flush=True)
        found = {
            **provenance(f"up to {max(each.ranks for each in settings)} ranks"),
            **summary(points),
            **here,
            "calibration": calibration,
            "points": points,
        }
        if path is not None:
            path.write_text(json.dumps(found, indent=1) + "\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--device", default="p100", help="a profile, as `hvd-imagenet plan` takes it")
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--factor", type=float, help="times longer, tensors smaller (default: 40)")
    parser.add_argument("--steps", type=int, help="measured of each point (default: 6)")
    parser.add_argument("--only", type=int, nargs="+", metavar="RANKS", help="points of so many ranks alone")
    parser.add_argument("--points", type=int, metavar="N", help="measure no more than so many this time")
    parser.add_argument("--quick", action="store_true", help="one point of 2 ranks on this machine, without hosts")
    arguments = parser.parse_args()
    profile = load_profile(arguments.device, arguments.model)
    if arguments.quick:
        lab = Lab(arguments.factor or 8.0, unmeasured=1, steps=arguments.steps or 2, cluster=None)
        found = study(QUICK, lab, profile, arguments.json)
    else:
        settings = [each for each in FULL if arguments.only is None or each.ranks in arguments.only]
        with hosts() as cluster:
            lab = Lab(arguments.factor or 40.0, unmeasured=2, steps=arguments.steps or 6, cluster=cluster)
            found = study(settings, lab, profile, arguments.json, arguments.points)
    print(json.dumps({name: value for name, value in found.items() if name != "points"}, indent=1))


if __name__ == "__main__":
    main()
