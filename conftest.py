"""What concerns the doctests of the package and all tests."""

import sys

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leaves Horovod's jobs of this process, the first joined last: it was the one that started MPI, and ends it.

    Examples join through Horovod's module for either framework, and again and again; left to themselves, they leave in
    the order of the last time that each was joined, and the process may end with an error of MPI after all tests.
    """
    joined = [name for name in sys.modules if name in ("horovod.torch", "horovod.tensorflow")]
    for name in reversed(joined):
        sys.modules[name].shutdown()
