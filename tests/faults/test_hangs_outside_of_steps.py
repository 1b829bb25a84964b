"""Case 4 outside of forward and backward pass: one rank hangs, the others wait for it, and the one is named."""

import os
import sys
from pathlib import Path

import pytest
from jobs import RECIPE
from ranks import program, run
from training_jobs import at_once, plan

STALL_TIMEOUT_S = 8
# The first step of Keras is compiled, which takes longer where another job runs beside it.
STALL_TIMEOUT_OF_KERAS_S = 14
# Start-up, of which a busy machine makes much, and what ending the job takes beyond --stall-timeout.
START_TIMEOUT_S = 20
WITHIN_S = 100


@pytest.mark.long
def test_04_a_rank_that_hangs_outside_of_a_pass(few_digits: Path, tmp_path: Path) -> None:
    def hangs(framework: str, action: str, others: str) -> None:
        timeout_s = STALL_TIMEOUT_S if framework == "torch" else STALL_TIMEOUT_OF_KERAS_S
        # Who hangs at the start is waited for longer.
        start_s = START_TIMEOUT_S if action == "starting" else WITHIN_S
        out = tmp_path / f"{framework}-{action}"
        words = [*RECIPE, "--framework", framework, "--epochs", "2", "--data", str(few_digits), "--out", str(out)]
        timeouts = ["--stall-timeout", str(timeout_s), "--start-timeout", str(start_s)]
        done = run(
            program("launch", "-np", "2", *timeouts, "--", *plan(f"gil@1::{action}"), "train", *words),
            timeout_s=WITHIN_S,
        )  # fmt: skip
        assert done.returncode == 124, done.stdout + done.stderr
        assert f"launch: stalled: rank 1 on {os.uname().nodename} has been {action}," in done.stderr, done.stderr
        assert f"; the others wait ({others}" in done.stderr

    def in_torch() -> None:
        hangs("torch", "starting", others="waiting for the others")
        hangs("torch", "updating", others="reducing gradients, iteration 1")
        hangs("torch", "saving a checkpoint", others="waiting for the others")

    def in_keras() -> None:
        hangs("keras", "updating", others="reducing gradients, iteration 1")
        hangs("keras", "validating", others="waiting for the others")

    at_once(in_torch, in_keras)


OWN_LOOP = """\
import ctypes
import horovod.torch as hvd
import torch
from hvd_imagenet.core.minibatch import Minibatch
from hvd_imagenet.heartbeat import beat
from hvd_imagenet.torch import DistributedOptimizer

hvd.init()
model = torch.nn.Linear(3, 1)
optimizer = DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), model.named_parameters(), Minibatch(2, 1))
for iteration in range(9):
    beat("computing", iteration)
    if (hvd.rank(), iteration) == (1, 5):
        ctypes.PyDLL(None).sleep(3600)  # PyDLL keeps the interpreter's lock during the call
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.mark.long
def test_04_in_a_loop_of_ones_own_that_says_what_it_does(tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text(OWN_LOOP)
    words = ["-np", "2", "--stall-timeout", "4", "--", sys.executable, str(tmp_path / "loop.py")]
    done = run(program("launch", *words), timeout_s=WITHIN_S)
    assert done.returncode == 124, done.stdout + done.stderr
    named = f"launch: stalled: rank 1 on {os.uname().nodename} has been computing, iteration 5, for "
    assert named in done.stderr, done.stderr
    assert "; the others wait (reducing gradients, iteration 5)" in done.stderr
