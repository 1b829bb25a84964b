"""Weights for others: what comes out must compute the same there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from hvd_imagenet import checkpoint as checkpoints
from hvd_imagenet.checkpoint import Checkpoint
from hvd_imagenet.cli import main
from hvd_imagenet.torch import models
from hvd_imagenet.torch.state import model_tensors, to_numpy


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    model = models.resnet8(num_classes=7)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
    return model.eval()


@pytest.fixture
def run_folder(tmp_path: Path, model: torch.nn.Module) -> Path:
    arrays = to_numpy(model_tensors(model))
    doubled = {name: 2 * array for name, array in arrays.items()}
    tensors = {"model": arrays, "momentum": {}, "model_ema": doubled}
    checkpoints.save(tmp_path / "run", Checkpoint(3, tensors, {"recipe": {"model": "resnet8"}}))
    return tmp_path / "run"


def export(run_folder: Path, to: str, out: Path, *words: str) -> int:
    return main(["export", "--checkpoint", str(run_folder), "--to", to, "--out", str(out), *words])


def test_torchvision_state_loads_strictly_and_computes_the_same(
    run_folder: Path, model: torch.nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(run_folder, "torchvision", tmp_path / "weights.pth") == 0
    assert f"56 arrays of resnet8, {run_folder}/checkpoints/iteration-00000003" in capsys.readouterr().out
    # nn.BatchNorm2d's own names, counters included: what torchvision's networks have.
    other = models.resnet8(num_classes=7).eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True), strict=True)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(other(images), model(images))


def test_the_running_average_is_exported_on_request(run_folder: Path, model: torch.nn.Module, tmp_path: Path) -> None:
    assert export(run_folder, "torchvision", tmp_path / "w.safetensors", "--model-ema") == 0
    np.testing.assert_array_equal(load_file(tmp_path / "w.safetensors")["fc.bias"], 2 * model.fc.bias.detach().numpy())


def test_keras_layers_compute_the_same(run_folder: Path, model: torch.nn.Module, tmp_path: Path) -> None:
    import keras

    assert export(run_folder, "keras", tmp_path / "w.safetensors") == 0
    arrays = load_file(tmp_path / "w.safetensors")
    assert not any(name.endswith(("num_batches_tracked", ".weight", ".bias")) for name in arrays)
    images = torch.randn(2, 3, 32, 32)
    stem = keras.Sequential(
        [
            keras.layers.Input((32, 32, 3)),
            keras.layers.Conv2D(16, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(epsilon=1e-5),
        ]
    )
    norm = [arrays[f"bn1/{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance")]
    stem.set_weights([arrays["conv1/kernel"], *norm])
    with torch.no_grad():
        wanted = model.bn1(model.conv1(images)).permute(0, 2, 3, 1).numpy()
        pooled = torch.randn(2, 64)
        wanted_logits = model.fc(pooled).numpy()
    np.testing.assert_allclose(np.asarray(stem(images.permute(0, 2, 3, 1).numpy())), wanted, atol=2e-5)
    np.testing.assert_allclose(pooled.numpy() @ arrays["fc/kernel"] + arrays["fc/bias"], wanted_logits, atol=1e-5)


@pytest.mark.parametrize(
    ("to", "name", "words", "message"),
    [
        ("keras", "w.pth", (), "must end in .safetensors for --to keras"),
        ("torchvision", "w.bin", (), "must end in .pth or .safetensors for --to torchvision"),
        ("keras", "missing/w.safetensors", (), "w.safetensors: cannot be written"),
    ],
)
def test_mistakes(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], to: str, name: str, words: tuple, message: str
) -> None:
    assert export(run_folder, to, tmp_path / name, *words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert told.count("\n") == 1


def test_no_running_average(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints.save(tmp_path, Checkpoint(1, {"model": {}, "momentum": {}}, {"recipe": {"model": "resnet8"}}))
    assert export(tmp_path, "keras", tmp_path / "w.safetensors", "--model-ema") == 2
    assert "was trained without --model-ema" in capsys.readouterr().err
