"""A host that is cut off in mid-run is left out, and the run goes on with the others to the same end."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from cluster_jobs import VARIABLES, is_the_same_run, on_one_host, train_words
from network import Cluster, Host
from ranks import end_tree, user_environment

ITERATIONS = 60
CUT_AFTER = 15
OPTIONS = ["--dtype", "float64", "--max-iterations", str(ITERATIONS), "--checkpoint-interval", "5"]


def rows_of(out: Path) -> int:
    table = out / "iterations.csv"
    return len(table.read_text().splitlines()) - 1 if table.exists() else 0


def wait_for(is_so: Callable[[], Any], what: str, job: "subprocess.Popen[str]", errors: Path, within_s: float) -> float:
    """Waits until something is so while a job runs, and returns how long it took."""
    began_s = time.monotonic()
    while not is_so():
        said = f"{what}: not within {within_s} s; the job says:\n{errors.read_text()}"
        assert time.monotonic() - began_s < within_s, said
        assert job.poll() is None, said
        time.sleep(0.1)
    return time.monotonic() - began_s


def working(host: Host) -> list[psutil.Process]:
    """What runs on a host beside sshd, which waits for the other end of connections that are gone."""
    return [process for process in host.processes() if process.name() != "sshd"]


@pytest.fixture(scope="module")
def expected(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return on_one_host(few_digits, tmp_path_factory.mktemp("one-host") / "run", *OPTIONS)


@pytest.mark.parametrize("launcher", ["mpirun", "horovodrun"])
def test_link_cut_in_mid_run(
    cluster: Cluster, few_digits: Path, tmp_path: Path, expected: Path, launcher: str, record_property: Any
) -> None:
    out, errors = tmp_path / "run", tmp_path / "errors"
    words = ["hvd-imagenet", "launch", "--launcher", launcher, "--hosts", str(cluster.hosts_file())]
    words += ["--network-interface", "eth0", "--max-restarts", "2", "--min-np", "4", "--stall-timeout", "20"]
    words += ["--", "train", *train_words(few_digits, out, *OPTIONS)]
    with errors.open("w") as file:
        job = subprocess.Popen(
            cluster.hosts[0].command(words), env=user_environment(**VARIABLES), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=file, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            wait_for(lambda: rows_of(out) >= CUT_AFTER, "training", job, errors, 90)
            cluster.plug(cluster.hosts[2], plugged=False)
            noticed_s = wait_for(lambda: "restart 1 of 2" in errors.read_text(), "restart", job, errors, 60)
            before = rows_of(out)
            again_s = wait_for(lambda: rows_of(out) > before, "training again", job, errors, 90)
            assert job.wait(timeout=150) == 0, errors.read_text()
        finally:
            if job.poll() is None:
                end_tree(job.pid)
    text = f"noticed and checked after {noticed_s:.0f} s, training again {again_s:.0f} s later"
    record_property(f"link cut, {launcher}", text)
    print(text)
    assert "on 4 processes on 2 hosts" in errors.read_text()
    is_the_same_run(out, expected, iterations=ITERATIONS, tolerance=1e-8)
    give_up_at_s = time.monotonic() + 60
    while working(cluster.hosts[2]) and time.monotonic() < give_up_at_s:
        time.sleep(0.2)
    assert not working(cluster.hosts[2]), "the host that is cut off still computes"
