"""Ranks that were given different things: refused with one line, before the first iteration where it can be known."""

import shutil
import sys
from pathlib import Path

import pytest
from ranks import program, run
from training_jobs import is_one_error, plan, train

LOOP = """\
import sys
import horovod.torch as hvd
import torch
from hvd_imagenet.core.minibatch import Minibatch
from hvd_imagenet.torch import DistributedOptimizer, abort_job_on_exception

hvd.init()
abort_job_on_exception()
odd = hvd.rank() == 1
model = torch.nn.Linear(4 if odd and sys.argv[1] == "shape" else 3, 1)
if odd and sys.argv[1] == "dtype":
    model.double()
optimizer = DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), model.named_parameters(), Minibatch(4, 1))
model(torch.ones(1, model.in_features, dtype=model.weight.dtype)).sum().backward()
optimizer.step()
"""


@pytest.mark.parametrize(
    ("what", "said"), [("shape", "shape"), pytest.param("dtype", "data type", marks=pytest.mark.long)]
)
def test_07_mismatch_of_shape_or_dtype(tmp_path: Path, what: str, said: str) -> None:
    loop = tmp_path / "loop.py"
    loop.write_text(LOOP)
    # Horovod itself would wait for ever.
    done = run([*program("launch", "-np", "2", "--"), sys.executable, str(loop), what], timeout_s=60)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error: the processes do not reduce the same tensors: Mismatched" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "8", "--label-smoothing", "0.1"], "than rank 0: label_smoothing 0.1, not 0.0; seed 8, not 7; give"),
        pytest.param(
            ["--checkpoint-interval", "3"],
            "than rank 0: checkpoint_interval 3, not None; give",
            marks=pytest.mark.long,
        ),
    ],
)
def test_08_other_options(few_digits: Path, tmp_path: Path, words: list[str], said: str) -> None:
    done = train(2, few_digits, tmp_path / "run", injected=plan(words=[[1, words]]))
    is_one_error(done, "error: rank 1 on ", "was given other options", said)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("other", ["class", pytest.param("image", marks=pytest.mark.long)])
def test_08_other_data(few_digits: Path, tmp_path: Path, other: str) -> None:
    data = Path(shutil.copytree(few_digits, tmp_path / "data"))
    first = min((data / "train").iterdir())
    for split in ("train", "val"):
        if other == "class":
            (data / split / first.name).rename(data / split / "another")
    if other == "image":
        min(first.iterdir()).unlink()
    done = train(2, few_digits, tmp_path / "run", injected=plan(words=[[1, ["--data", str(data)]]]))
    is_one_error(done, f"error: --data {data}: rank 1 on ", "sees other files than rank 0; give all hosts the same")
    assert not (tmp_path / "run").exists()
