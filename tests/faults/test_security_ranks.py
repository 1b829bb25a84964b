"""What ranks send each other: plain data, in which there is nothing to execute; Horovod's own objects signed."""

import sys
from pathlib import Path

import pytest
from security_jobs import BIN, LAUNCHERS, TIMEOUT_S, malicious_pickle, start
from training_jobs import ROOT_MAY_RUN

# Rank 1 sends a pickle, as if a stranger had put it into the connection; were there pickles, it would be loaded.
FORGED = """\
import importlib, sys
import cloudpickle
import numpy as np

communication, session = (importlib.import_module(f"hvd_imagenet.{sys.argv[1]}.{name}")
                          for name in ("communication", "session"))
communicator, pickled = session.join_job(), bytes.fromhex(sys.argv[2])
if communicator.rank == 1:
    communication.encoded = lambda value: np.frombuffer(pickled, np.uint8)
    cloudpickle.dump = lambda value, file, *_: file.write(pickled)
    cloudpickle.dumps = lambda value, *_: pickled
"""
WHAT_RANKS_DO = {
    "torch": "communicator.gather('plain data')",
    "torch, optimizer": """\
import torch

model = torch.nn.Linear(2, 1)
communication.broadcast(model, torch.optim.SGD(model.parameters(), lr=0.1), root_rank=1)
""",
    "keras": "communicator.gather('plain data')",
}
JOBS = {"mpirun": [str(BIN / "mpirun"), "-np", "2"], "launch": LAUNCHERS["launch"]}
# What comes from rank 1 is not signed.
UNSIGNED = """\
import sys
import horovod.torch as hvd
from horovod.runner.common.util import secret

hvd.init()
if hvd.rank() == 1:
    secret.signed = lambda message: bytes.fromhex(sys.argv[1])
hvd.allgather_object("an object")
"""


@pytest.mark.parametrize(
    ("launcher", "what"),
    [
        ("mpirun", "torch"),
        pytest.param("mpirun", "torch, optimizer", marks=pytest.mark.long),
        pytest.param("mpirun", "keras", marks=pytest.mark.long),
        pytest.param("launch", "torch", marks=pytest.mark.long),
    ],
)
def test_ranks_execute_nothing_that_they_are_sent(launcher: str, what: str, tmp_path: Path) -> None:
    """A bare mpirun gives a job no secret that could be asked for."""
    (tmp_path / "rank.py").write_text(FORGED + WHAT_RANKS_DO[what])
    pickled = malicious_pickle(tmp_path / "marker")
    separator = ["--"] if launcher == "launch" else []
    program = [*separator, sys.executable, str(tmp_path / "rank.py"), what.partition(",")[0], pickled.hex()]
    with start([*JOBS[launcher], *program], tmp_path, **ROOT_MAY_RUN) as job:
        assert job.process.wait(TIMEOUT_S) == 2, job.said()
        job.reader.join(10)
    errors = [line for line in job.said().splitlines() if line.startswith("error: ")]
    assert errors == [
        f"error: rank 1 has sent {len(pickled)} bytes that are no JSON; all processes must run the same "
        "hvd_imagenet, in a network where nobody else reaches them"
    ], job.said()
    assert "Traceback" not in job.said()
    assert not (tmp_path / "marker").exists()


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["launch", "horovodrun-mpi", "horovodrun-gloo"])
def test_horovods_own_functions_unpickle_nothing_that_is_not_signed(launcher: str, tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text(UNSIGNED)
    separator = ["--"] if launcher == "launch" else []
    program = [*separator, sys.executable, str(tmp_path / "rank.py"), malicious_pickle(tmp_path / "marker").hex()]
    with start([*LAUNCHERS[launcher], *program], tmp_path) as job:
        assert job.process.wait(TIMEOUT_S) != 0
        job.reader.join(10)
    assert "digest did not match the object" in job.said()
    assert not (tmp_path / "marker").exists()
