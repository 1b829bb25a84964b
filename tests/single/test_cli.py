import os
import signal
import subprocess
import sys
import time

import pytest

import hvd_imagenet
from hvd_imagenet.cli import build_parser
from hvd_imagenet.commands import COMMANDS

HEAVY = ("torch", "tensorflow", "keras", "horovod", "mpi4py")


def _run(*words, columns=80):
    environment = os.environ | {"COLUMNS": str(columns)}
    command = [sys.executable, "-m", "hvd_imagenet", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: COMMAND; see: hvd-imagenet --help"),
        (["--bogus", "train"], "unrecognized arguments: --bogus; see: hvd-imagenet --help"),
        (["train"], "--data is missing: name a folder, or make one: hvd-imagenet make-dataset DIR --source digits"),
        (["train", "--bogus"], "unrecognized arguments: --bogus; see: hvd-imagenet --help"),
        (
            ["train", "--data", "d", "--minibatch", "100"],
            "minibatch must be a multiple of per_worker, but 100 is not a multiple of 32; nearest: 96 or 128",
        ),
        (
            ["schedule", "--minibatch", "x"],
            "argument --minibatch: invalid int value: 'x'; see: hvd-imagenet schedule --help",
        ),
        (
            ["train", "--recipe", "digit"],
            "recipe must be one of cluttered_digits, digits, resnet101_1hour, resnet20_cifar, resnet20x4_cifar, "
            "resnet50_1hour, resnet50_256, shapes, not 'digit'; nearest: digits, cluttered_digits",
        ),
        (["schedule", "--images", "0"], "--images must be an integer of 1 or more, not 0"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words, message):
    result = _run(*words)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"error: {message}\n")


def test_an_unknown_command_lists_the_known_ones():
    result = _run("trian")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: argument COMMAND: invalid choice: 'trian' (choose from ")
    assert result.stderr.count("\n") == 1
    assert all(name in result.stderr for name in COMMANDS)


def test_data_that_is_not_there_is_one_line():
    result = _run("train", "--recipe", "digits", "--data", "/nowhere")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: data folder /nowhere: no such folder; ")
    assert result.stderr.count("\n") == 1


def test_help_lists_every_command():
    result = _run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for name, summary in COMMANDS.items():
        assert name in result.stdout
        assert summary in " ".join(result.stdout.split())


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_works_and_fits_80_columns(command):
    result = _run(*filter(None, [command]), "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"usage: hvd-imagenet {command}".rstrip() in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    if command:
        assert "example" in result.stdout


def test_version():
    assert _run("--version").stdout == f"hvd-imagenet {hvd_imagenet.__version__}\n"


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_the_parser_takes_no_framework(command):
    code = (
        "import sys; from hvd_imagenet.cli import build_parser; "
        f"build_parser({command!r}); print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_only_the_chosen_commands_module_is_imported():
    code = (
        "import sys; from hvd_imagenet.cli import build_parser; build_parser('doctor'); "
        "print([name for name in sys.modules if name.startswith('hvd_imagenet.commands.')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "['hvd_imagenet.commands.doctor']\n"


def test_a_command_has_its_function():
    assert build_parser("schedule").parse_args(["schedule"]).run.__module__ == "hvd_imagenet.commands.schedule"


def test_ctrl_c_ends_a_command_with_one_word(tmp_path):
    out = tmp_path / "shapes"
    command = [sys.executable, "-m", "hvd_imagenet", "make-dataset", str(out), "--source", "shapes", "--images", "9999"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        give_up_at_s = time.monotonic() + 20
        while not list(tmp_path.iterdir()) and time.monotonic() < give_up_at_s:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    assert not out.exists()
