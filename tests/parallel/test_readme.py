"""What README says to type is typed here."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from ranks import ROOT, program, run

from hvd_imagenet.cli import build_parser

README = (ROOT / "README.md").read_text()
SHELL_LINES = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]
READER, READER_IN_KERAS, LOOP, VALIDATION, KERAS_SCRIPT = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
OWN_COMMANDS = [re.split(r"hvd-imagenet ", line, maxsplit=1)[1] for line in SHELL_LINES if "hvd-imagenet " in line]


def test_the_loop_is_complete_in_thirty_lines_and_learns_on_two_ranks(tmp_path: Path) -> None:
    assert len(LOOP.splitlines()) <= 30
    script = tmp_path / "loop.py"
    imported = "from hvd_imagenet.torch import HorovodCommunicator, average_over_processes, running_averages\n"
    script.write_text(
        LOOP
        + imported
        + VALIDATION
        + '\nprint(f"rank {hvd.rank()}: {optimizer.iteration} iterations, loss {loss.item():.3f}")\n'
    )
    done = run(program("launch", "-np", "2", "--", sys.executable, str(script)), timeout_s=180)
    assert done.returncode == 0, done.stderr
    ends = re.findall(r"rank (\d): 60 iterations, loss ([\d.]+)", done.stdout)
    assert sorted(rank for rank, _ in ends) == ["0", "1"], done.stdout
    assert all(float(loss) < 1.0 for _, loss in ends), done.stdout


def test_the_keras_script_is_complete_in_forty_lines_and_gives_the_same_on_one_and_two_ranks(tmp_path: Path) -> None:
    assert len(KERAS_SCRIPT.splitlines()) < 40
    script = tmp_path / "fit.py"
    script.write_text(KERAS_SCRIPT)
    values = {}
    for ranks in ("1", "2"):
        done = run(program("launch", "-np", ranks, "--", sys.executable, str(script)), timeout_s=300)
        assert done.returncode == 0, done.stderr
        assert done.stderr.strip() == ""
        assert done.stdout.count("Epoch ") == 5
        values[ranks] = [float(value) for value in re.findall(r"- (?:loss|val_error): ([\d.]+)", done.stdout)]
    assert len(values["1"]) == 10
    assert values["2"][0] == pytest.approx(values["1"][0], rel=1e-3)
    assert max(values["1"][-2], values["2"][-2]) < 0.2
    assert max(values["1"][-1], values["2"][-1]) < 20


OF_THE_READER = """
from pathlib import Path
from torch.utils.data import DataLoader
from hvd_imagenet.core import Minibatch, Stream
from hvd_imagenet.data.listing import list_dataset
from hvd_imagenet.data.reader import Reader
from hvd_imagenet.data.transforms import Augmentation
"""
IN_TORCH = """
import horovod.torch as hvd
from hvd_imagenet.torch import ReaderDataset
hvd.init()
{}
taken = [(pixels.shape, len(labels)) for pixels, labels in loader]
assert taken == [((32, 32, 32, 3), 32)] * 100 * len(workers), taken
"""
IN_KERAS = """
import hvd_imagenet.keras as hvd
import keras
from hvd_imagenet.keras.data import ReaderSequence, as_tf_data
hvd.init()
{}
layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(10)]
model = keras.Sequential(layers)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD(0.01)), loss)
{}
assert model.optimizer.iterations == 200, model.optimizer.iterations
"""


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_the_reader_serves_other_loops_in_five_lines(digits: Path, tmp_path: Path, framework: str) -> None:
    lines = READER.replace("data/digits", str(digits)).splitlines()
    assert len(lines) == 5
    script = tmp_path / "reader.py"
    if framework == "torch":
        script.write_text(OF_THE_READER + IN_TORCH.format("\n".join(lines)))
    else:
        script.write_text(OF_THE_READER + IN_KERAS.format("\n".join(lines[:-1]), READER_IN_KERAS))
    done = run(program("launch", "-np", "2", "--", sys.executable, str(script)), timeout_s=180)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", OWN_COMMANDS)
def test_every_command_has_the_options_that_it_is_shown_with(command: str) -> None:
    words = shlex.split(command)
    while words:
        arguments = build_parser(words[0]).parse_args(words)
        words = getattr(arguments, "program", [])[1:]
        assert callable(arguments.run)


@pytest.mark.parametrize("command", [command for command in OWN_COMMANDS if command.startswith("schedule")])
def test_the_schedules_are_printed(command: str) -> None:
    done = run(program(*shlex.split(command)), timeout_s=30)
    assert done.returncode == 0, done.stderr
    assert "3.2" in done.stdout or "1.6" in done.stdout


def test_every_make_target_is_there() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    named = {shlex.split(line)[1] for line in SHELL_LINES if line.startswith("make ")} | {"setup", "help"}
    assert named <= set(targets)


def test_every_link_and_every_name_in_the_table_is_there() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
    for names, target in re.findall(r"\| ((?:`\w+`(?:, )?)+) in \[[^]]+\]\(([^)]+)\)", README):
        code = (ROOT / target).read_text()
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(?:class|def) {name}\b", code, flags=re.MULTILINE), (name, target)
