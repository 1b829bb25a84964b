"""Training on 3 hosts × 2 processes is the training on one host, however it is started."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster_jobs import is_the_same_run, on_first_host, on_one_host, train_words
from network import Cluster
from ranks import ROOT

ITERATIONS = 20
FLOAT64 = ["--dtype", "float64", "--max-iterations", str(ITERATIONS)]
# Rounding grows fast in batch norm over 2 images; with 8 of them it does not within 20 iterations.
FLOAT32 = ["--max-iterations", str(ITERATIONS), "--minibatch", "96", "--per-worker", "8", "--epochs", "30"]
FLOAT32 += ["--reference-lr", "0.002"]


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
def hosts_of_example(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """launch/hosts.example with fewer slots, where the scripts look for it."""
    example = (ROOT / "launch" / "hosts.example").read_text()
    assert example == cluster.hosts_file(slots=8).read_text()
    (tmp_path / "hosts").write_text(example.replace("slots=8", "slots=2"))
    monkeypatch.setenv("HOSTS", str(tmp_path / "hosts"))


def test_mpirun_by_its_script(hosts_of_example: None, check: Callable[..., str]) -> None:
    check(["launch/mpirun.sh"], *FLOAT32, tolerance=1e-3)


def test_mpirun_by_launch(cluster: Cluster, check: Callable[..., str]) -> None:
    check(["hvd-imagenet", "launch", "--hosts", str(cluster.hosts_file()), "--", "train"], *FLOAT64)


def test_horovodrun_mpi(cluster: Cluster, check: Callable[..., str]) -> None:
    check(["horovodrun", "--mpi", "-np", "6", "-H", cluster.hosts_option(), "hvd-imagenet", "train"], *FLOAT64)


def test_horovodrun_gloo_by_its_script(hosts_of_example: None, check: Callable[..., str]) -> None:
    check(["launch/horovodrun.sh"], *FLOAT32, tolerance=1e-3)


def test_horovodrun_gloo_by_launch(cluster: Cluster, check: Callable[..., str]) -> None:
    start = ["hvd-imagenet", "launch", "--launcher", "horovodrun", "--hosts", str(cluster.hosts_file()), "--", "train"]
    check(start, *FLOAT64)


def test_keras_mpirun(cluster: Cluster, check: Callable[..., str]) -> None:
    start = ["hvd-imagenet", "launch", "--hosts", str(cluster.hosts_file()), "--", "train"]
    check(start, "--framework", "keras", *FLOAT64)


def test_keras_horovodrun_gloo(cluster: Cluster, check: Callable[..., str]) -> None:
    start = ["hvd-imagenet", "launch", "--launcher", "horovodrun", "--hosts", str(cluster.hosts_file()), "--", "train"]
    check(start, "--framework", "keras", *FLOAT64)


def test_loopback_name_mpirun(cluster: Cluster, check: Callable[..., str]) -> None:
    """Every host believes that its own name is 127.0.1.1, which is no address for the others."""
    cluster.name_by_loopback(True)
    check(["hvd-imagenet", "launch", "--hosts", str(cluster.hosts_file()), "--", "train"], *FLOAT64)


def test_loopback_name_horovodrun_gloo(cluster: Cluster, check: Callable[..., str]) -> None:
    cluster.name_by_loopback(True)
    words = ["--hosts", str(cluster.hosts_file()), "--network-interface", "eth0", "--", "train"]
    check(["hvd-imagenet", "launch", "--launcher", "horovodrun", *words], *FLOAT64)
