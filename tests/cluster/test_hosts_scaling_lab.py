"""A point of benchmarks/scaling_lab.py: ranks on three hosts whose links are slow and late, beside the planner."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from network import INTERFACE, Cluster

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from scaling_lab_hosts import Lab
from scaling_lab_points import SEGMENTS, Setting, compute_s, predicted

# 5 Gbit/s are 139 Mbit/s, and ResNet-50's gradients 17 MB, of which a ring of three passes on a third more.
SETTING, FACTOR = Setting(3, 1, "5gbit"), 6.0
SEGMENTS_OF_LINUX = 65535


@pytest.fixture
def lab(cluster: Cluster) -> Iterator[Lab]:
    yield Lab(cluster)
    for host in cluster.hosts:
        subprocess.run(
            host.command(["ip", "link", "set", "dev", INTERFACE, "gso_max_segs", str(SEGMENTS_OF_LINUX)]), check=True
        )


def said(cluster: Cluster, *words: str) -> str:
    """What a command prints on the first host."""
    done = subprocess.run(cluster.hosts[0].command(words), capture_output=True, text=True, check=True)
    return done.stdout


def test_a_point_of_the_scaling_lab(lab: Lab, cluster: Cluster, record_property: Any) -> None:
    messages = lab.messages(SETTING, FACTOR)
    assert messages.message_s > 1e-6 * SETTING.latency_us * FACTOR
    found = lab.steps(SETTING, FACTOR, unmeasured=1, measured=2)
    assert "qdisc tbf" in said(cluster, "tc", "qdisc", "show", "dev", INTERFACE)
    assert f"gso_max_segs {SEGMENTS} " in said(cluster, "ip", "-details", "link", "show", "dev", INTERFACE)
    step_s = min(found["seconds"])
    planned_s = predicted(SETTING, FACTOR, messages, 0.0).seconds
    text = f"{step_s:.2f} s, planner {planned_s:.2f} s, {1e3 * messages.message_s:.2f} ms a message"
    record_property("scaling lab, Gloo, 3 x 1, a step", text)
    print(text)
    assert planned_s > 1.3 * FACTOR * compute_s(SETTING.profile)
    assert 0.85 <= step_s / planned_s <= 1.4, text
