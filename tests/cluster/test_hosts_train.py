"""Training on 3 hosts × 2 processes is the training on one host, however it is started: README's commands, and more."""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster_jobs import RECIPE, is_the_same_run, on_first_host, on_one_host, train_words
from network import INTERFACE, Cluster
from ranks import ROOT
from readme_commands import shown

ITERATIONS = 20
FLOAT64 = ["--dtype", "float64", "--max-iterations", str(ITERATIONS)]
# Rounding grows fast in batch norm over 2 images; with 8 of them it does not within 20 iterations.
FLOAT32 = ["--max-iterations", str(ITERATIONS), "--minibatch", "96", "--per-worker", "8", "--epochs", "30"]
FLOAT32 += ["--reference-lr", "0.002"]
# As they stand in README.
ON_THIS_MACHINE = (
    ".venv/bin/hvd-imagenet launch -np 8 -- train --recipe resnet50_1hour --data /data/imagenet --out runs/one-hour "
    "--minibatch 1024"
)
MPIRUN = ".venv/bin/hvd-imagenet launch -H node1:8,node2:8,node3:8 -- train --data /data/imagenet --out runs/one-hour"
MPIRUN_SCRIPT = "HOSTS=hosts launch/mpirun.sh --data /data/imagenet --out runs/one-hour"
HOROVODRUN_GLOO = (
    ".venv/bin/hvd-imagenet launch --launcher horovodrun --hostfile hosts -- train --data /data/imagenet "
    "--out runs/one-hour"
)
HOROVODRUN_GLOO_SCRIPT = "HOSTS=hosts launch/horovodrun.sh --data /data/imagenet --out runs/one-hour"
HOROVODRUN_MPI = (
    "PATH=$PWD/.venv/bin:$PATH horovodrun --mpi -np 24 --hostfile hosts hvd-imagenet train --data /data/imagenet "
    "--out runs/one-hour"
)


@pytest.fixture(scope="module")
def reference(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The run of the same options on one host, made once."""
    folder, made = tmp_path_factory.mktemp("one-host"), {}

    def get(*words: str) -> Path:
        if words not in made:
            made[words] = on_one_host(few_digits, folder / str(len(made)), *words)
        return made[words]

    return get


@pytest.fixture
def check(cluster: Cluster, few_digits: Path, tmp_path: Path, reference: Callable[..., Path]) -> Callable[..., str]:
    """Runs `train` behind a launcher's words on the hosts, compares it, and returns what it has printed."""

    def start_and_compare(start: list[str], *words: str, tolerance: float = 1e-9) -> str:
        done = on_first_host(cluster, [*start, *train_words(few_digits, tmp_path / "run", *words)])
        assert re.search(r"minibatch \d+ = 12 workers of \d, on 6 processes \(cpu\)", done.stdout), done.stdout
        is_the_same_run(tmp_path / "run", reference(*words), iterations=ITERATIONS, tolerance=tolerance)
        return str(done.stdout)

    return start_and_compare


@pytest.fixture
def hosts_of_example(cluster: Cluster, tmp_path: Path) -> Path:
    """launch/hosts.example with fewer slots."""
    example = (ROOT / "launch" / "hosts.example").read_text()
    assert example == cluster.hosts_file(slots=8).read_text()
    (tmp_path / "hosts").write_text(example.replace("slots=8", "slots=2"))
    return tmp_path / "hosts"


@pytest.fixture
def type_in(cluster: Cluster, few_digits: Path, tmp_path: Path, reference: Callable[..., Path]) -> Callable[..., None]:
    """Types a line of README on node1, with paths of this test in it and options of `train` after it, and compares."""

    def type_and_compare(
        line: str, places: dict[str, str], *words: str, processes: int = 6, tolerance: float = 1e-9
    ) -> None:
        places = {"/data/imagenet": str(few_digits), "runs/one-hour": str(tmp_path / "run"), **places}
        typed = f"{shown(line, places)} {shlex.join([*RECIPE, *words])}"
        done = on_first_host(cluster, ["sh", "-c", typed])
        assert re.search(rf"minibatch \d+ = 12 workers of \d, on {processes} processes \(cpu\)", done.stdout), (
            done.stdout
        )
        is_the_same_run(tmp_path / "run", reference(*words), iterations=ITERATIONS, tolerance=tolerance)

    return type_and_compare


def test_local(type_in: Callable[..., None]) -> None:
    """On one of the hosts, alone."""
    type_in(ON_THIS_MACHINE, {"-np 8": "-np 2"}, *FLOAT64, processes=2)


def test_mpirun_by_its_script(hosts_of_example: Path, type_in: Callable[..., None]) -> None:
    type_in(MPIRUN_SCRIPT, {"HOSTS=hosts": f"HOSTS={hosts_of_example}"}, *FLOAT32, tolerance=1e-3)


def test_mpirun_by_launch(type_in: Callable[..., None]) -> None:
    type_in(MPIRUN, {":8": ":2"}, *FLOAT64)


def test_horovodrun_mpi(hosts_of_example: Path, type_in: Callable[..., None]) -> None:
    places = {"-np 24": "-np 6", "--hostfile hosts": f"--hostfile {hosts_of_example}"}
    type_in(HOROVODRUN_MPI, places, *FLOAT64)


def test_horovodrun_gloo_by_its_script(hosts_of_example: Path, type_in: Callable[..., None]) -> None:
    type_in(HOROVODRUN_GLOO_SCRIPT, {"HOSTS=hosts": f"HOSTS={hosts_of_example}"}, *FLOAT32, tolerance=1e-3)


def test_horovodrun_gloo_by_launch(hosts_of_example: Path, type_in: Callable[..., None]) -> None:
    type_in(HOROVODRUN_GLOO, {"--hostfile hosts": f"--hostfile {hosts_of_example}"}, *FLOAT64)


def test_keras_mpirun(cluster: Cluster, check: Callable[..., str]) -> None:
    start = ["hvd-imagenet", "launch", "--hosts", str(cluster.hosts_file()), "--", "train"]
    check(start, "--framework", "keras", *FLOAT64)


def test_keras_horovodrun_mpi(cluster: Cluster, check: Callable[..., str]) -> None:
    hosts = ["-np", "6", "--hostfile", str(cluster.hosts_file())]
    check(["horovodrun", "--mpi", *hosts, "hvd-imagenet", "train"], "--framework", "keras", *FLOAT64)


def test_keras_horovodrun_gloo(cluster: Cluster, check: Callable[..., str]) -> None:
    start = ["hvd-imagenet", "launch", "--launcher", "horovodrun", "--hosts", str(cluster.hosts_file()), "--", "train"]
    check(start, "--framework", "keras", *FLOAT64)


def test_loopback_name_mpirun(cluster: Cluster, check: Callable[..., str]) -> None:
    """Every host believes that its own name is 127.0.1.1, which is no address for the others."""
    cluster.name_by_loopback(True)
    check(["hvd-imagenet", "launch", "--hosts", str(cluster.hosts_file()), "--", "train"], *FLOAT64)


@pytest.mark.parametrize("network", [[], ["--network-interface", "eth0"]], ids=["any interface", "eth0"])
def test_loopback_name_horovodrun_gloo(cluster: Cluster, check: Callable[..., str], network: list[str]) -> None:
    cluster.name_by_loopback(True)
    words = ["--hosts", str(cluster.hosts_file()), *network, "--", "train"]
    check(["hvd-imagenet", "launch", "--launcher", "horovodrun", *words], *FLOAT64)


RANK_OF_ALL = "import horovod.torch as hvd; hvd.init(); print(hvd.rank(), hvd.size(), hvd.local_size(), flush=True)"


@pytest.mark.parametrize("launcher", ["mpirun", "horovodrun"])
def test_the_line_of_a_dry_run_starts_the_job(cluster: Cluster, launcher: str) -> None:
    words = ["--launcher", launcher, "--network-interface", INTERFACE, "-H", cluster.hosts_option()]
    command = ["hvd-imagenet", "launch", *words, "--dry-run", "--", sys.executable, "-c", RANK_OF_ALL]
    line = on_first_host(cluster, command).stdout
    assert len(line.splitlines()) == 1
    done = on_first_host(cluster, ["sh", "-c", line])
    # horovodrun puts the rank and the stream before each line
    ranks = sorted(re.findall(r"(\d) 6 2$", done.stdout, flags=re.MULTILINE))
    assert ranks == ["0", "1", "2", "3", "4", "5"], done.stdout
