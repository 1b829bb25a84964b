"""A host that is cut off in mid-run is left out, and taken back when it answers again; the run is the same."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from cluster_jobs import Job, is_the_same_run, on_one_host, started, train_words
from network import Cluster, Host

ITERATIONS = 120
CUT_AFTER = 15
NOTICED_WITHIN_S = 60
BEYOND_A_START_S = 10
OPTIONS = ["--dtype", "float64", "--epochs", "32", "--max-iterations", str(ITERATIONS), "--checkpoint-interval", "5"]
LOST = "is lost: its host has not been heard of"
GUARD = "hvd_imagenet.launcher.guard"
# Launchers, and how they are told of the hosts.
CASES = {"mpirun": "--discover", "horovodrun": "--hosts"}


def rows_of(out: Path) -> int:
    table = out / "iterations.csv"
    return len(table.read_text().splitlines()) - 1 if table.exists() else 0


def wait_for_words(job: Job, words: str) -> float:
    """Waits until the job has said something, and returns when that was."""
    return job.wait_for(lambda: words in job.said(), words, NOTICED_WITHIN_S)


def wait_for_rows(job: Job, out: Path, more: int) -> float:
    """The same of so many more iterations."""
    goal = rows_of(out) + more
    return job.wait_for(lambda: rows_of(out) >= goal, "training", within_s=90)


def working(host: Host) -> list[psutil.Process]:
    """What runs on a host beside sshd, which waits for the other end of connections that are gone."""
    return [process for process in host.processes() if process.name() != "sshd"]


def ranks(host: Host) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """The ranks of a host, and their guards."""
    found: tuple[list[psutil.Process], list[psutil.Process]] = [], []
    for process in host.processes():
        with suppress(psutil.Error):  # it has ended
            words = process.cmdline()
            if "hvd_imagenet" in words:
                found[GUARD in words].append(process)
    return found


def seconds_until(is_so: Callable[[], Any], within_s: float) -> float:
    """How long it takes until something is so."""
    began_s = time.monotonic()
    while not is_so():
        assert time.monotonic() - began_s < within_s
        time.sleep(0.1)
    return time.monotonic() - began_s


@pytest.fixture(scope="module")
def expected(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return on_one_host(few_digits, tmp_path_factory.mktemp("one-host") / "run", *OPTIONS)


def listed(cluster: Cluster, option: str, folder: Path) -> list[str]:
    """The hosts, as `launch` is told of them."""
    if option == "--hosts":
        return [option, str(cluster.hosts_file())]
    script = folder / "discover"
    script.write_text(f"#!/bin/sh\ncat {cluster.hosts_file()}\n")
    script.chmod(0o755)
    return [option, str(script)]


@pytest.mark.parametrize("launcher", CASES)
def test_link_cut_in_mid_run(
    cluster: Cluster, few_digits: Path, tmp_path: Path, expected: Path, launcher: str, record_property: Any
) -> None:
    out, (_, second, third) = tmp_path / "run", cluster.hosts
    words = ["hvd-imagenet", "launch", "--launcher", launcher, *listed(cluster, CASES[launcher], tmp_path)]
    words += ["--network-interface", "eth0", "--max-restarts", "2", "--min-np", "4", "--stall-timeout", "60"]
    words += ["--", "train", *train_words(few_digits, out, *OPTIONS)]
    with started(cluster, words, tmp_path) as job, ThreadPoolExecutor() as beside:
        start_s = wait_for_rows(job, out, 1) - job.began_s
        wait_for_rows(job, out, CUT_AFTER)
        assert [len(each) for each in ranks(third)] == [2, 2]
        cluster.plug(third, plugged=False)
        cut_s = time.monotonic()
        ended = beside.submit(seconds_until, lambda: not any(ranks(third)), NOTICED_WITHIN_S)
        lost_s = wait_for_words(job, LOST)
        wait_for_words(job, "restart 1 of 2, on 4 processes on 2 hosts")
        again_s = wait_for_rows(job, out, 1) - lost_s
        times = f"noticed after {lost_s - cut_s:.1f} s, training again {again_s:.1f} s later"
        times += f"; its own ranks ended after {ended.result():.1f} s; a start takes {start_s:.1f} s"
        assert f"launch: goes on without {third.name}: " in job.said()
        assert again_s <= start_s + BEYOND_A_START_S, times
        # Then it is there again, and takes part from the next start on.
        cluster.plug(third, plugged=True)
        ranks(second)[0][0].kill()
        wait_for_words(job, "restart 2 of 2, on 6 processes on 3 hosts")
        job.finish(within_s=240)
    record_property(f"link cut, {launcher}", times)
    print(times)
    is_the_same_run(out, expected, iterations=ITERATIONS, tolerance=1e-8)
    seconds_until(lambda: not working(third), 60)
