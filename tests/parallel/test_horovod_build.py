"""The installed Horovod on two real ranks: started by mpirun and by horovodrun, over MPI and over Gloo.

Run as a program with the name of a function below, this file is what each rank executes.
"""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest

BIN = Path(sysconfig.get_path("scripts"))
RANKS = 2
TIMEOUT_S = 150
LAUNCHERS = {
    "mpirun": [str(BIN / "mpirun"), "-np", str(RANKS)],
    "horovodrun-mpi": [str(BIN / "horovodrun"), "-np", str(RANKS), "--mpi"],
    "horovodrun-gloo": [str(BIN / "horovodrun"), "-np", str(RANKS), "--gloo"],
}


def launch(launcher: str, words: Sequence[str], timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMIX_"))}
    # As root, mpirun wants to be told twice; horovodrun says it by itself.
    if launcher == "mpirun":
        environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    environment.pop("LD_LIBRARY_PATH", None)
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "HOROVOD_DYNAMIC_PROCESS_SETS": "1"}
    return subprocess.run(
        [*LAUNCHERS[launcher], *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def run_on_ranks(launcher: str, program: str) -> str:
    done = launch(launcher, [sys.executable, __file__, program])
    assert done.returncode == 0, done.stdout
    for rank in range(RANKS):
        assert f"rank {rank} done" in done.stdout, done.stdout
    return done.stdout


# --- what the ranks execute ------------------------------------------------------------------------------------


def torch_basics() -> None:
    import horovod.torch as hvd
    import torch

    hvd.init()
    assert hvd.size() == RANKS
    assert torch.equal(hvd.allreduce(torch.full((3,), 1.0 + hvd.rank()), op=hvd.Sum), torch.full((3,), 3.0))
    assert hvd.broadcast_object({"from": hvd.rank()}, root_rank=1) == {"from": 1}
    # A process set has a context of its own, with Gloo one whose interface is to be that of the job.
    last = hvd.add_process_set([1])
    if hvd.rank() == 1:
        assert hvd.allreduce(torch.ones(1), op=hvd.Sum, process_set=last).item() == 1.0
    hvd.barrier()
    print(f"rank {hvd.rank()} done mpi={hvd.mpi_enabled()} gloo={hvd.gloo_enabled()}", flush=True)


def torch_layouts() -> None:
    import horovod.torch as hvd
    import torch

    hvd.init()
    rank = hvd.rank()
    # One value an element, so that any shuffled element shows; a factor a rank, so that the sum is known: 1 + 10.
    factor = (1.0, 10.0)[rank]
    plain = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)
    layouts = {
        "channels_last": plain.contiguous(memory_format=torch.channels_last),
        "permuted": plain.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
        "transposed": plain.reshape(6, 20).t().contiguous().t(),
        "one_wide": plain.reshape(2, 1, 12, 5).transpose(2, 3).contiguous().transpose(2, 3),
        "channels_last_3d": plain.reshape(2, 3, 2, 2, 5).contiguous(memory_format=torch.channels_last_3d),
        "default": plain.clone(),
    }
    assert not layouts["channels_last"].is_contiguous()
    assert not layouts["one_wide"].is_contiguous()
    for name, values in layouts.items():
        strides, logical = values.stride(), values.contiguous()
        expected = logical * 11
        mine = values * factor
        assert mine.stride() == strides

        reduced = hvd.allreduce(mine, name=f"{name}.out", op=hvd.Sum)
        assert torch.equal(reduced, expected), name
        assert reduced.stride() == strides, name
        assert torch.equal(mine, logical * factor), name

        memory = mine.data_ptr()
        returned = hvd.allreduce_(mine, name=f"{name}.in", op=hvd.Sum)
        assert returned.data_ptr() == mine.data_ptr() == memory, name
        assert mine.stride() == returned.stride() == strides, name
        assert torch.equal(mine, expected), name

        handle = hvd.allreduce_async_(mine, name=f"{name}.async", op=hvd.Average)
        assert torch.equal(hvd.synchronize(handle), expected), name

        sent = values * factor
        assert torch.equal(hvd.broadcast(sent, root_rank=1, name=f"{name}.bcast"), logical * 10), name
        hvd.broadcast_(sent, root_rank=1, name=f"{name}.bcast_")
        assert torch.equal(sent, logical * 10), name
        assert sent.stride() == strides, name

    group = [values * factor for values in layouts.values()]
    out = hvd.grouped_allreduce(group, name="group", op=hvd.Sum)
    for before, after in zip(group, out, strict=True):
        assert torch.equal(after, before.contiguous() * 11 / factor)
    hvd.grouped_allreduce_(group, name="group_", op=hvd.Sum)
    for values, after in zip(layouts.values(), group, strict=True):
        assert torch.equal(after, values.contiguous() * 11)
        assert after.stride() == values.stride()

    half = (layouts["channels_last"] * factor).half()
    assert torch.equal(hvd.allreduce(half, name="half", op=hvd.Sum), (plain * 11).half())
    print(f"rank {rank} done", flush=True)


def torch_layout_mistakes() -> None:
    import horovod.torch as hvd
    import torch

    hvd.init()
    with pytest.raises(ValueError, match=r"dense .*shape \(2, 2\) with strides \(4, 1\)"):
        hvd.allreduce_(torch.zeros(2, 4)[:, :2], name="slice")
    with pytest.raises(ValueError, match="dense"):
        hvd.grouped_allreduce_([torch.zeros(2), torch.zeros(4, 4)[:, :2]], name="slices")
    with pytest.raises(ValueError, match="dense"):
        hvd.broadcast_(torch.zeros(1, 3).expand(2, 3), root_rank=0, name="expanded")
    with pytest.raises(ValueError, match="Tensor is required to be contiguous"):
        hvd.allgather(torch.zeros(2, 3).t(), name="gather")
    # Equal sizes: only the layout tells the two tensors apart, and it must not be ignored.
    square = torch.zeros(3, 3) if hvd.rank() == 0 else torch.zeros(3, 3).t()
    with pytest.raises(hvd.HorovodInternalError, match="Mismatched"):
        hvd.allreduce_(square, name="square")
    print(f"rank {hvd.rank()} done", flush=True)


def torch_optimizer() -> None:
    import horovod.torch as hvd
    import torch

    hvd.init()
    torch.manual_seed(hvd.rank())
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(16, 2))
    model = model.to(memory_format=torch.channels_last)
    assert not model[0].weight.is_contiguous()
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    optimizer = hvd.DistributedOptimizer(
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), named_parameters=model.named_parameters()
    )
    for set_to_none in (True, False, True):
        optimizer.zero_grad(set_to_none=set_to_none)
        assert all((p.grad is None) == set_to_none for p in model.parameters())
        images = torch.randn(4, 3, 4, 4).contiguous(memory_format=torch.channels_last)
        model(images).square().sum().backward()
        optimizer.step()
    optimizer.zero_grad(True)
    for name, parameter in model.named_parameters():
        mine = parameter.detach().contiguous()
        theirs = hvd.broadcast(mine, root_rank=0, name=f"check.{name}")
        assert torch.equal(mine, theirs), name
        assert mine.isfinite().all(), name
    print(f"rank {hvd.rank()} done", flush=True)


def tensorflow_basics() -> None:
    import horovod.tensorflow as hvd
    import tensorflow as tf

    hvd.init()
    rank = hvd.rank()
    assert hvd.size() == RANKS
    assert hvd.allreduce(tf.fill((3,), 1.0 + rank), op=hvd.Sum).numpy().tolist() == [3.0, 3.0, 3.0]
    out = tf.function(lambda x: hvd.grouped_allreduce([x, 2 * x], op=hvd.Sum))(tf.constant([1.0 + rank]))
    assert [float(value[0]) for value in out] == [3.0, 6.0]
    print(f"rank {rank} done mpi={hvd.mpi_enabled()} gloo={hvd.gloo_enabled()}", flush=True)


def keras_variables() -> None:
    import horovod.tensorflow as hvd
    import keras
    import numpy as np
    import tensorflow as tf

    hvd.init()
    rank = hvd.rank()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    own = [variable.numpy() + rank for variable in model.variables]
    for inplace in (False, True):
        for variable, value in zip(model.variables, own, strict=True):
            variable.assign(value)
        hvd.broadcast_variables(model.variables, root_rank=1, inplace=inplace)
        from_root = hvd.broadcast_object(own, root_rank=1)
        for variable, value in zip(model.variables, from_root, strict=True):
            np.testing.assert_array_equal(variable.numpy(), value)

    # d(Σ outputs)/d(weights) for an input of ones, whatever the weights; the mean over the ranks of 1 and 2 times it.
    images = tf.ones((1, 2)) * (1.0 + rank)
    variables = model.trainable_variables
    # Names of Keras 3 variables repeat ("kernel", "bias"), and groups must not mix the variables up.
    groups_of_variables = (None, 1, [[variables[0], variables[2]]])
    for groups in groups_of_variables:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images))
        local = tape.gradient(loss, variables)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images))
        reduced = hvd.DistributedGradientTape(tape, groups=groups).gradient(loss, variables)
        for mine, mean in zip(local, reduced, strict=True):
            expected = hvd.allreduce(mine, op=hvd.Average)
            np.testing.assert_allclose(mean.numpy(), expected.numpy(), rtol=1e-6)

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images))
    tape = hvd.DistributedGradientTape(tape, scale_local_gradients=False)
    tape.register_local_source(variables[0])
    reduced = tape.gradient(loss, variables)
    np.testing.assert_allclose(reduced[0].numpy(), local[0].numpy(), rtol=1e-6)

    # Batches of 0, 2 and 4, 6: by themselves variance 1; together mean 3 and variance 5.
    layer = hvd.SyncBatchNormalization(momentum=0.0, epsilon=0.0)
    layer(tf.constant([[0.0], [2.0]]) + 4.0 * rank, training=True)
    assert layer.moving_mean.numpy().tolist() == [3.0]
    assert layer.moving_variance.numpy().tolist() == [5.0]
    with pytest.raises(ValueError, match="does not support fused=True"):
        hvd.SyncBatchNormalization(fused=True)
    print(f"rank {rank} done", flush=True)


# --- tests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("program", ["torch_basics", "tensorflow_basics"])
def test_collectives_work_under_every_launcher(launcher: str, program: str) -> None:
    output = run_on_ranks(launcher, program)
    controller = "mpi=False gloo=True" if launcher == "horovodrun-gloo" else "mpi=True gloo=False"
    assert output.count(controller) == RANKS, output


@pytest.mark.parametrize("launcher", ["mpirun", "horovodrun-gloo"])
def test_dense_tensors_of_any_layout_are_reduced_in_place(launcher: str) -> None:
    run_on_ranks(launcher, "torch_layouts")


@pytest.mark.parametrize("program", ["torch_layout_mistakes", "torch_optimizer", "keras_variables"])
def test_binding(program: str) -> None:
    run_on_ranks("mpirun", program)


def test_horovodrun_imports_no_framework_to_launch(tmp_path: Path) -> None:
    for name in ("torch", "tensorflow", "keras"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('horovodrun imported {name}')\n")
    words = ["--", sys.executable, "-c", "print('launched')"]
    for launcher in ("horovodrun-mpi", "horovodrun-gloo"):
        command = [*LAUNCHERS[launcher], *words[1:]]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("launched") == RANKS


def test_a_failing_rank_fails_horovodrun() -> None:
    for launcher in ("horovodrun-mpi", "horovodrun-gloo"):
        assert launch(launcher, [sys.executable, "-c", "raise SystemExit(3)"]).returncode != 0


if __name__ == "__main__":
    globals()[sys.argv[1]]()
