"""10,000 mutated config files, checkpoints and manifests: each is loaded right, or refused with one line."""

import copy
import dataclasses
import hashlib
import json
import math
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import yaml

from hvd_imagenet.checkpoint import MANIFEST, Checkpoint, load, save
from hvd_imagenet.checkpoint.format import sealed
from hvd_imagenet.checkpoint.tensor_files import weights_of
from hvd_imagenet.cli import build_parser
from hvd_imagenet.commands.recipe_options import recipe_of
from hvd_imagenet.commands.train_options import run_config_of
from hvd_imagenet.core.metrics import Sums
from hvd_imagenet.errors import UserError
from hvd_imagenet.recipe import Recipe
from hvd_imagenet.recipes import named
from hvd_imagenet.resuming import check_same_run
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.session import config_of
from hvd_imagenet.training_run import TrainingRun

CONFIGS, BYTES, MANIFESTS, TENSOR_FILES = 2500, 4500, 1500, 1500
assert CONFIGS + BYTES + MANIFESTS + TENSOR_FILES == 10_000

# Of the processor, so that a busy machine does not count.
SECONDS_A_CASE = 5.0

# What a file may hold by accident or by malice, in YAML and in JSON.
JUNK: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, math.inf, math.nan, "", "x",
    "../../etc/passwd", "\u0000", "a\nb", "é\u2028", "9" * 5000, [], [[]], [1, "x"], {}, {"a": {}}, [1e400],
    "auto", "--data",
]  # fmt: skip
YAML_TOKENS = [
    b"!!python/object/apply:os.system [touch executed]", b"&a [*a, *a]", b"*b", b"? [1]", b": ", b"- ", b"\t",
    b"%YAML 3", b"---\n", b"2001-99-99", b"0x" + b"f" * 5000, b"1" * 5000, b"{", b"[" * 2000, b"!!binary aGVsbG8=",
    b"'", b'"', b"|", b"\xff\xfe", b"\x00", b"~", b".nan", b".inf", b"-1", b"1e-3", b"yes", b"help: true", b"<<: *a",
    b"config: x",
    b"\xe2\x80\xa8", b"#", b"12:30:45", b"minibatch", b"!!set {a}", b"!!omap [a: 1]",
]  # fmt: skip


def mutate(content: bytes, random: np.random.Generator, tokens: list[bytes]) -> bytes:
    """One to four changes: a bit, a byte, a part cut out, doubled, moved or replaced by a token, a cut-off end."""
    for _ in range(random.integers(1, 5)):
        at = int(random.integers(0, len(content) + 1))
        length = int(min(random.integers(1, 40), len(content) - at))
        kind = random.integers(0, 7)
        middle = content[at : at + length]
        if kind == 0 and middle:
            middle = bytes([middle[0] ^ (1 << int(random.integers(8)))]) + middle[1:]
        elif kind == 1 and middle:
            middle = bytes([int(random.integers(256))]) + middle[1:]
        elif kind == 2:
            middle = b""
        elif kind == 3:
            middle = middle * 2
        elif kind == 4:
            middle = tokens[random.integers(len(tokens))]
        elif kind == 5:
            other = int(random.integers(0, len(content) + 1))
            middle = content[other : other + length]
        elif random.integers(4) == 0:
            return content[:at]
        content = content[:at] + middle + content[at + length :]
    return content


def is_short_line(message: str) -> bool:
    return len(message.splitlines()) == 1 and len(message) < 20_000


def too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"not done after {SECONDS_A_CASE:g} s")


def verdicts(cases: int, seed: int, one: Callable[[np.random.Generator], str]) -> Counter[str]:
    """Runs all cases; a refusal must be one line and in time, and anything else than a UserError fails the test."""
    counts: Counter[str] = Counter()
    signal.signal(signal.SIGPROF, too_long)  # pytest-timeout has SIGALRM
    for case in range(cases):
        random = np.random.default_rng((seed, case))
        signal.setitimer(signal.ITIMER_PROF, SECONDS_A_CASE)
        try:
            counts[one(random)] += 1
        except UserError as error:
            counts["refused" if is_short_line(str(error)) else f"case {case} is refused with: {error}"] += 1
        except BaseException as error:
            raise AssertionError(f"case {case}: {error!r}") from error
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    assert set(counts) == {"loaded", "refused"}, counts
    assert counts.total() == cases
    return counts


def same(option: Any, value: Any) -> bool:
    """Whether a field of the configuration is what the file says."""
    if isinstance(value, list | tuple):
        return isinstance(option, list | tuple) and len(option) == len(value) and all(map(same, option, value))
    if type(option) in (int, float) and not isinstance(value, bool):
        return float(option) == float(value)
    return str(option) == str(value) or option == value


def options_of(name: str, recipe: Recipe, config: RunConfig) -> dict[str, Any]:
    """What was loaded, by the names of a file's options."""
    fields = {**dataclasses.asdict(recipe), **dataclasses.asdict(config), "recipe": name}
    options = {field.removesuffix("_px"): value for field, value in fields.items()}
    return {**options, "model_ema": recipe.model_ema_decay is not None}


def test_22_config_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = RunConfig(Path("data"), recipe_name="digits", checkpoint_interval=10, bad_images="skip=3")
    more = {"train_list": "list.txt", "out": "run", "resume": "never", "model_ema": True, "decay_epochs": [9.5, 12.0]}
    good = yaml.safe_dump({**config_of(named("digits"), config), **more}, sort_keys=False).encode()
    path = tmp_path / "config.yaml"
    parser = build_parser("train")

    def one(random: np.random.Generator) -> str:
        content = mutate(good, random, YAML_TOKENS)
        path.write_bytes(content)
        arguments = parser.parse_args(["train", "-c", str(path)])
        name, recipe = recipe_of(arguments)
        loaded = options_of(name, recipe, run_config_of(arguments, name))
        told = yaml.safe_load(content)
        for option, value in told.items():
            option = option.replace("-", "_")
            if value is None or (option == "model_ema_decay" and told.get("model_ema") is False):
                continue
            if option in ("data", "train_list") and loaded["synthetic"]:
                value = None
            found = loaded[option] if option in loaded else not loaded[option.removeprefix("no_")]
            assert same(found, value), (option, value, loaded)
        return "loaded"

    path.write_bytes(good)
    name, recipe = recipe_of(parser.parse_args(["train", "-c", str(path)]))
    changed_here = {"decay_epochs": (9.5, 12.0), "model_ema_decay": 0.9998}
    assert (name, recipe) == ("digits", dataclasses.replace(named("digits"), **changed_here))
    counts = verdicts(CONFIGS, 1, one)
    print(counts)
    assert counts["loaded"] > 100
    assert counts["refused"] > 1000
    assert not Path("executed").exists()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = named("digits")
    run = TrainingRun(recipe, 1000, None, 100, lambda line: None, classes=("one", "two"))
    run.epoch_sums = Sums(64.0, 32.5, 16.0, 48.0)
    random = np.random.default_rng(0)
    weights = {"fc.weight": random.normal(size=(4, 8)).astype(np.float32), "fc.bias": np.zeros(4, np.float32)}
    manifest = run.manifest(0.1, "fingerprint", "torch", {"numpy": "2"})
    folder = tmp_path_factory.mktemp("run")
    return save(folder, Checkpoint(40, {"model": weights, "momentum": weights}, manifest))


def test_22_checkpoints(checkpoint: Path) -> None:
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    good = load(checkpoint)
    names = sorted(files)

    def one(random: np.random.Generator) -> str:
        name = names[random.integers(len(names))]
        (checkpoint / name).write_bytes(mutate(files[name], random, [b"", b"\0" * 8, b"NaN", b"{}", b"[" * 5000]))
        try:
            loaded = load(checkpoint)
        finally:
            (checkpoint / name).write_bytes(files[name])
        assert loaded.manifest == good.manifest
        for part, arrays in good.tensors.items():
            assert {n: a.tobytes() for n, a in loaded.tensors[part].items()} == {
                n: a.tobytes() for n, a in arrays.items()
            }
        return "loaded"

    counts = verdicts(BYTES, 2, one)
    print(counts)
    assert counts["refused"] > 0.9 * BYTES


def changed(value: Any, random: np.random.Generator) -> Any:
    """A copy of JSON data with junk somewhere, or something left out."""
    if isinstance(value, dict) and value and random.integers(8):
        name = sorted(value)[random.integers(len(value))]
        if random.integers(8) == 0:
            return {each: value[each] for each in value if each != name}
        return {**value, name: changed(value[name], random)}
    if isinstance(value, list) and value and random.integers(8):
        at = int(random.integers(len(value)))
        return [*value[:at], changed(value[at], random), *value[at + 1 :]]
    return copy.deepcopy(JUNK[random.integers(len(JUNK))])


def test_22_manifests_with_the_right_digest(checkpoint: Path) -> None:
    text = (checkpoint / MANIFEST).read_text()
    good = json.loads(text)
    del good["manifest_sha256"]
    recipe = named("digits")

    def one(random: np.random.Generator) -> str:
        manifest = changed(good, random)
        if not isinstance(manifest, dict):
            manifest = {"format": manifest}
        (checkpoint / MANIFEST).write_text(json.dumps(sealed(manifest)))
        try:
            loaded = load(checkpoint)
            assert json.dumps(loaded.manifest, sort_keys=True) == json.dumps(manifest, sort_keys=True)  # NaN is not NaN
        finally:
            (checkpoint / MANIFEST).write_text(text)
        check_same_run(checkpoint, loaded.manifest, recipe, "fingerprint")
        run = TrainingRun(recipe, 1000, None, 100, lambda line: None)
        run.resume(loaded)
        assert run.iteration == manifest["iteration"]
        run.rows_due()
        return "loaded"

    counts = verdicts(MANIFESTS, 3, one)
    print(counts)
    assert counts["refused"] > 0.3 * MANIFESTS


def test_22_safetensors_files_with_the_right_digest(checkpoint: Path) -> None:
    good = (checkpoint / "model.safetensors").read_bytes()
    text = (checkpoint / MANIFEST).read_text()
    manifest = json.loads(text)
    del manifest["manifest_sha256"]
    tokens = [
        b"9" * 18,
        b"18446744073709551615",
        b"-1",
        b"F64",
        b"BF16",
        b"I64",
        b"[]",
        b"null",
        b"1e9",
        b"0",
        b'"',
        b"{",
    ]

    def one(random: np.random.Generator) -> str:
        end = 8 + int.from_bytes(good[:8], "little")
        header = mutate(good[8:end], random, tokens)
        length = len(header) if random.integers(4) else int(random.integers(0, 2**63))
        content = length.to_bytes(8, "little") + header + good[end:]
        digests = {**manifest["sha256"], "model.safetensors": hashlib.sha256(content).hexdigest()}
        (checkpoint / "model.safetensors").write_bytes(content)
        (checkpoint / MANIFEST).write_text(json.dumps(sealed({**manifest, "sha256": digests})))
        try:
            loaded = load(checkpoint).tensors["model"]
        finally:
            (checkpoint / "model.safetensors").write_bytes(good)
            (checkpoint / MANIFEST).write_text(text)
        data = good[end:]
        for name, entry in json.loads(header).items():
            if name == "__metadata__":
                continue
            begin, stop = entry["data_offsets"]
            assert loaded[name].tobytes() == data[begin:stop]
            assert list(loaded[name].shape) == entry["shape"]
        return "loaded"

    assert weights_of(good).keys() == {"fc.weight", "fc.bias"}
    counts = verdicts(TENSOR_FILES, 4, one)
    print(counts)
    assert counts["refused"] > 0.5 * TENSOR_FILES
    assert counts["loaded"] > 0
