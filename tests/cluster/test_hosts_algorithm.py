"""On several hosts another component of Open MPI would choose; `launch --allreduce-algorithm` leaves it out."""

import sys
import sysconfig
from pathlib import Path

import pytest
import summation_order
from cluster_jobs import on_first_host
from network import INTERFACE, Cluster
from ranks import program
from summation_order import ORDERS


@pytest.mark.parametrize(("algorithm", "order"), ORDERS.items())
def test_mpirun_open_mpi_does_as_told(cluster: Cluster, algorithm: str, order: str) -> None:
    library = next(Path(sysconfig.get_path("data"), "lib").glob("libmpi.so.*"))
    options = ["-H", "node1:2,node2:2", "--network-interface", INTERFACE, "--allreduce-algorithm", algorithm]
    rank = [sys.executable, summation_order.__file__, str(library)]
    done = on_first_host(cluster, program("launch", *options, "--", *rank), timeout_s=60)
    assert done.stdout.strip() == order
