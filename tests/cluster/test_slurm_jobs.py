"""Jobs under a real Slurm of two nodes."""

import os
import sys
from collections.abc import Iterator

import pytest
from network import Cluster, missing_packages, why_not
from slurm import Slurm
from slurm import missing_packages as missing_slurm_packages

FOUR_PROCESSES = ["--nodes=2", "--ntasks-per-node=2"]


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if reason := why_not():
        pytest.skip(reason)
    packages = [*missing_packages(), *missing_slurm_packages()]
    assert not packages, f"install {' '.join(packages)}, as `make test-cluster` does"
    with Cluster(tmp_path_factory.mktemp("hosts")) as hosts:
        yield Slurm(hosts, tmp_path_factory.mktemp("slurm"))


@pytest.fixture
def slurm(two_nodes: Slurm) -> Iterator[Slurm]:
    """Without a job before and after."""
    yield two_nodes
    left = two_nodes.jobs()
    for job in left:
        two_nodes.run("scancel", job)
    two_nodes.until(lambda: not two_nodes.jobs(), timeout_s=60, otherwise="there are jobs left")
    assert not left


def print_ranks() -> None:
    """What the ranks run: rank, size, and the same within the host."""
    import horovod.torch as hvd

    hvd.init()
    print(hvd.rank(), hvd.size(), hvd.local_rank(), hvd.local_size(), os.uname().nodename)
    hvd.shutdown()


def test_slurm_srun_places_ranks(slurm: Slurm) -> None:
    """Slurm's PMIx tells Open MPI which ranks share a host."""
    done = slurm.run("srun", *FOUR_PROCESSES, "--mpi=pmix", sys.executable, __file__, timeout_s=60)
    expected = ["0 4 0 2 node1", "1 4 1 2 node1", "2 4 0 2 node2", "3 4 1 2 node2"]
    assert sorted(done.stdout.splitlines()) == expected, done.stderr


if __name__ == "__main__":
    print_ranks()
