"""Tests on several hosts; after each, no process of it may be left on any host."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from network import Cluster, missing_packages, why_not

_GONE_WITHIN_S = 15.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks all tests of this folder, which `make test` leaves out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def three_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The hosts, for all tests; skipped where the machine cannot have them, as for a user who is not root."""
    if reason := why_not():
        pytest.skip(reason)
    assert not missing_packages(), f"install {' '.join(missing_packages())}, as `make test-cluster` does"
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(three_hosts: Cluster) -> Iterator[Cluster]:
    """The hosts for one test, with good links and names, and nothing of the test before."""
    yield three_hosts
    three_hosts.mend()
    give_up_at_s = time.monotonic() + _GONE_WITHIN_S
    while (left := three_hosts.processes()) and time.monotonic() < give_up_at_s:
        time.sleep(0.1)
    for process in left:
        process.kill()
    assert not left, f"left behind: {left}"
