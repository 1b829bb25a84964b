"""State that ranks must share in one form: layouts, optimizers without momentum, the size of the job, finished runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from ranks import program, run, run_ranks
from training import RECIPE, losses, tensors, train_all

FIELDS = {**RECIPE, "minibatch": 16, "per_worker": 4}
# A checkpoint averages batch norm over the processes, which rounds: the run without a stop must make one there too.
EVERY_THIRD = {"checkpoint_interval": 3}
RUNS = {
    "channels_last": (FIELDS, {"channels_last": True, **EVERY_THIRD}),
    "no_momentum": ({**FIELDS, "momentum": 0.0, "nesterov": False}, EVERY_THIRD),
    "average": ({**FIELDS, "model_ema_decay": 0.9}, {"compression": "fp16", **EVERY_THIRD}),
}


@pytest.fixture(scope="module")
def stopped_and_resumed(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("state")
    whole = [(f"{name}_whole", fields, {**options, "max_iterations": 6}) for name, (fields, options) in RUNS.items()]
    first = [(name, fields, {**options, "max_iterations": 3}) for name, (fields, options) in RUNS.items()]
    again = [(name, fields, {**options, "max_iterations": 6}) for name, (fields, options) in RUNS.items()]
    run_ranks(2, train_all, str(few_digits), str(out), whole + first)
    run_ranks(2, train_all, str(few_digits), str(out), again)
    return out


@pytest.mark.parametrize("name", RUNS)
def test_a_stopped_run_goes_on_where_it_was(stopped_and_resumed: Path, name: str) -> None:
    whole, resumed = stopped_and_resumed / f"{name}_whole", stopped_and_resumed / name
    np.testing.assert_array_equal(losses(resumed), losses(whole))
    for part in ("model", "momentum"):
        for key, array in tensors(whole, part).items():
            np.testing.assert_array_equal(tensors(resumed, part)[key], array, err_msg=f"{part} {key}")
    assert json.loads((resumed / "summary.json").read_text())["resumed_from_iteration"] == 3


def broadcast_keeps_layouts() -> None:
    import horovod.torch as hvd
    import torch

    from hvd_imagenet.torch import broadcast

    for make in (
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda parameters: torch.optim.Adam(parameters, lr=0.1),
    ):
        torch.manual_seed(hvd.rank())
        model = torch.nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
        optimizer = make(model.parameters())
        if hvd.rank() == 0:
            model(torch.randn(2, 3, 8, 8)).sum().backward()
            optimizer.step()
        before = model.weight.detach().clone()
        broadcast(model, optimizer)
        state = optimizer.state[model.weight]
        arrays = [model.weight.detach(), *(value for value in state.values() if torch.is_tensor(value))]
        assert len(arrays) >= 2
        assert model.weight.is_contiguous(memory_format=torch.channels_last)
        if hvd.rank() == 0:
            assert torch.equal(before, model.weight)
        for array in arrays:
            of_all = hvd.allgather_object(array.contiguous().numpy())
            np.testing.assert_array_equal(of_all[0], of_all[1])


def test_broadcast_keeps_channels_last() -> None:
    run_ranks(2, broadcast_keeps_layouts)


def test_a_step_that_was_skipped_does_not_leave_the_next_one_unreduced() -> None:
    for processes in (1, 2):
        run_ranks(processes, skip_a_step)


def skip_a_step() -> None:
    import horovod.torch as hvd
    import torch

    from hvd_imagenet.core import Minibatch
    from hvd_imagenet.torch import DistributedOptimizer

    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    minibatch = Minibatch(2, 1)
    local = len(minibatch.placement(hvd.size())[hvd.rank()])
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer = DistributedOptimizer(sgd, model.named_parameters(), minibatch)
    for step in range(2):
        for worker in range(local):
            (model.weight.sum() * (1.0 + hvd.rank() + worker)).backward()  # gradients 1 and 2: their mean is 1.5
        optimizer.synchronize()
        if step == 0:
            model.zero_grad()  # as GradScaler does where a gradient has overflowed: no step
    with optimizer.skip_synchronize():
        optimizer.step()
    assert model.weight.item() == -1.5, model.weight


def test_processes_that_do_not_find_each_other_do_not_train_alone(few_digits: Path, tmp_path: Path) -> None:
    words = ["train", "--recipe", "digits", "--data", str(few_digits), "--out", str(tmp_path / "run")]
    # What a mpirun of another MPI leaves behind: the variables of a job of two, and no way to the other one.
    alone = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}
    done = run(program(*words), timeout_s=60, **alone)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the launcher has started 2 processes, but Horovod has joined 1 of them")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_summary_that_was_not_written_any_more_is_written(few_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "--recipe", "digits", "--data", str(few_digits), "--out", str(out), "--max-iterations", "2"]
    assert run(program(*words), timeout_s=90).returncode == 0
    summary = json.loads((out / "summary.json").read_text())
    (out / "summary.json").unlink()
    done = run(program(*words), timeout_s=90)
    assert done.returncode == 0, done.stderr
    assert f"{out} is finished: 2 iterations are done, 2 are wanted" in done.stdout
    assert json.loads((out / "summary.json").read_text()) == {**summary, "resumed_from_iteration": 2}


def test_a_checkpoint_that_cannot_be_written(few_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "checkpoints").write_text("in the way")
    words = ["train", "--recipe", "digits", "--data", str(few_digits), "--out", str(out), "--max-iterations", "1"]
    done = run(program("launch", "-np", "2", "--", *words), timeout_s=90)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: checkpoint of iteration 1 in {out}: cannot be written (")
    assert done.stderr.count("\n") == 1
