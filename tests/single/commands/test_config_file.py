import argparse
import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from hvd_imagenet.cli import Parser
from hvd_imagenet.commands import schedule, train, train_options
from hvd_imagenet.commands.config_file import words_of
from hvd_imagenet.commands.recipe_options import recipe_of
from hvd_imagenet.errors import UserError
from hvd_imagenet.recipes import RECIPES, Recipe, named
from hvd_imagenet.run_config import RunConfig


def _parser(command=train):
    parser = Parser(prog="hvd-imagenet train")
    command.add_arguments(parser)
    return parser


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "options.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("minibatch: 64", ["--minibatch=64"]),
        ("per-worker: 8\nper_worker: 9", ["--per-worker=8", "--per-worker=9"]),
        ("weight_decay: 1e-4", ["--weight-decay=1e-4"]),
        ("weight_decay: 0.0001", ["--weight-decay=0.0001"]),
        ("nesterov: true\nhorizontal_flip: off", ["--nesterov", "--no-horizontal-flip"]),
        ("decay_epochs: [1, 2.5]", ["--decay-epochs", "1", "2.5"]),
        ("clip_grad: null\nmodel_ema_decay:", []),
        ("data: a b/c", ["--data=a b/c"]),
        ("warmup: none", ["--warmup=none"]),
    ],
)
def test_words(file, text, words):
    assert words_of(Path(file(text))) == words


@pytest.mark.parametrize("order", [["-c", "FILE", "--minibatch", "64"], ["--minibatch", "64", "-c", "FILE"]])
def test_the_command_line_wins_in_whatever_order(file, order):
    path = file("minibatch: 128\nper_worker: 16\nseed: 3")
    arguments = _parser().parse_args([path if word == "FILE" else word for word in order])
    _, recipe = recipe_of(arguments)
    assert (recipe.minibatch, recipe.per_worker, recipe.seed) == (64, 16, 3)


@pytest.mark.parametrize("order", [["-c", "FILE", "--nesterov"], ["--nesterov", "-c", "FILE"]])
def test_a_switch_of_the_command_line_wins(file, order):
    path = file("nesterov: false\nhorizontal_flip: false")
    arguments = _parser().parse_args([path if word == "FILE" else word for word in order])
    assert arguments.nesterov is True
    assert arguments.horizontal_flip is False


def test_the_command_line_can_name_another_recipe(file):
    name, recipe = recipe_of(_parser().parse_args(["-c", file("recipe: shapes\nseed: 7"), "--recipe", "digits"]))
    assert name == "digits"
    assert recipe == dataclasses.replace(named("digits"), seed=7)


@pytest.mark.parametrize("number", ["1e-4", "1E-4", "0.0001", "1.0e-4", "'0.0001'"])
def test_numbers_as_people_write_them(file, number):
    assert recipe_of(_parser().parse_args(["-c", file(f"weight_decay: {number}")]))[1].weight_decay == 1e-4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bogus: 1", "unrecognized arguments: --bogus=1; see: hvd-imagenet train --help"),
        ("no_such: false", "unrecognized arguments: --no-no-such; see: hvd-imagenet train --help"),
        ("minibatch: 8k", "argument --minibatch: invalid int value: '8k'; see: hvd-imagenet train --help"),
        (
            "pixel_mean: [1, 2, 3, 4, 5]\nseed: 1",
            "more values than their options take: 4 5; see: hvd-imagenet train --help",
        ),
        ("minibatch: {size: 3}", "must hold lines such as `minibatch: 8192`, without nesting"),
        ("- minibatch", "must hold lines such as `minibatch: 8192`, without nesting"),
        ("just words", "must hold lines such as `minibatch: 8192`, without nesting"),
        ("", "must hold lines such as `minibatch: 8192`, without nesting"),
        ("config: other.yaml", "must not name another file of options (config)"),
        ("conf: other.yaml", "must not name another file of options (config)"),
    ],
)
def test_messages(file, text, message):
    path = file(text)
    with pytest.raises(UserError, match=f"^{re.escape(f'-c {path}: {message}')}$"):
        _parser().parse_args(["-c", path])


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\tx"])
def test_not_yaml_is_one_line(file, text):
    path = file(text)
    with pytest.raises(UserError, match=f"^{re.escape(f'-c {path}: cannot be read as YAML: ')}") as caught:
        _parser().parse_args(["-c", path])
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    for path, reason in [(tmp_path / "none.yaml", "No such file"), (tmp_path, "Is a directory")]:
        with pytest.raises(UserError, match=f"^-c {re.escape(str(path))}: cannot be read as YAML: .*{reason}"):
            _parser().parse_args(["-c", str(path)])
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"/binary: cannot be read as YAML: "):
        _parser().parse_args(["-c", str(tmp_path / "binary")])


def test_options_of_train_are_passed_over_by_other_commands(file):
    path = file("framework: torch\ndata: d\nchannels_last: false\ntorchcompile: true\ndtype: float32\nseed: 5")
    arguments = _parser(schedule).parse_args(["-c", path])
    assert arguments.seed == 5
    assert _parser().parse_args(["-c", path]).channels_last is False


UNUSUAL = Recipe(
    model="resnet20", minibatch=96, per_worker=12, epochs=7.5, reference_lr=1e-5, warmup="constant", warmup_epochs=0.5,
    schedule="cosine", decay_epochs=(1.25, 1e-3 + 2), nesterov=False, weight_decay=1e-20, clip_grad=0.1,
    model_ema_decay=0.99, zero_last_gamma=False, area_range=(1 / 3, 2 / 3), horizontal_flip=False, seed=-4,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "recipe"), [*((name, make()) for name, make in RECIPES.items()), ("resnet50_1hour", UNUSUAL)]
)
def test_config_yaml_of_a_run_reads_back_to_the_identical_recipe(tmp_path, name, recipe):
    from hvd_imagenet.run_folder import RunFolder
    from hvd_imagenet.session import config_of

    config = RunConfig(data=Path("d"), recipe_name=name, channels_last=True, checkpoint_interval=5, dtype="float64")
    RunFolder(tmp_path, config_of(recipe, config)).close()
    arguments = _parser().parse_args(["-c", str(tmp_path / "config.yaml")])
    read_name, read = recipe_of(arguments)
    assert (read_name, read, read.hash) == (name, recipe, recipe.hash)
    assert dataclasses.replace(train_options.run_config_of(arguments, read_name), progress_bar=False) == config
    assert recipe_of(_parser(schedule).parse_args(["-c", str(tmp_path / "config.yaml")]))[1] == recipe


def test_config_yaml_is_yaml_with_a_line_an_option(tmp_path):
    from hvd_imagenet.session import config_of

    config = config_of(Recipe(), RunConfig(data=Path("d"), recipe_name="resnet50_1hour"))
    assert yaml.safe_load(yaml.safe_dump(config)) == config
    names = {field.name.removesuffix("_px") for field in dataclasses.fields(Recipe)}
    # Decays that the length gives are left out: a later --epochs moves them.
    assert names - set(config) == {"decay_epochs"}
    moved = config_of(dataclasses.replace(Recipe(), decay_epochs=(30.0, 80.0)), RunConfig(data=Path("d")))
    assert moved["decay_epochs"] == [30.0, 80.0]
    assert not {"out", "resume", "progress_bar"} & set(config)


def test_every_field_of_a_recipe_has_an_option():
    names = set(vars(_parser().parse_args([])))
    assert {field.name for field in dataclasses.fields(Recipe)} <= names
    assert all(value is None for value in vars(_parser().parse_args([])).values())


@pytest.mark.parametrize("parser", [argparse.ArgumentParser, Parser])
def test_no_option_gives_the_default_recipe(parser):
    parser = parser()
    train.add_arguments(parser)
    assert recipe_of(parser.parse_args([])) == ("resnet50_1hour", Recipe())
