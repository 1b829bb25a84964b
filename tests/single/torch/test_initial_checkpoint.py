"""Weights out of files that anyone may have written."""

import contextlib
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.numpy import save as safetensors_bytes

from hvd_imagenet.checkpoint import read_weights
from hvd_imagenet.commands import export
from hvd_imagenet.communicator import SingleProcess
from hvd_imagenet.errors import UserError
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.torch.beginning import begin_network, read_pth
from hvd_imagenet.torch.models import resnet8
from hvd_imagenet.torch.state import model_tensors
from hvd_imagenet.weights import to_torchvision

RECIPE = Recipe(model="resnet8", minibatch=32, image_size_px=32, validation_resize_px=32)


class Malice:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def _state(classes=10):
    torch.manual_seed(1)
    return resnet8(num_classes=classes).state_dict()


def _begin(path, classes=10, resumed=None, **options):
    session = SimpleNamespace(
        communicator=SingleProcess(), train=SimpleNamespace(classes=range(classes)), workers=range(1), resumed=resumed
    )
    config = RunConfig(Path("d"), initial_checkpoint=path, **options)
    return begin_network(RECIPE, config, session, torch.device("cpu"))


@pytest.mark.parametrize("form", ["pth", "zip of old", "safetensors", "exported"])
def test_the_weights_are_those_of_the_file(tmp_path, form):
    state = _state()
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    path = tmp_path / ("w.safetensors" if form in ("safetensors", "exported") else "w.pth")
    if form == "exported":
        kept = {name: array for name, array in arrays.items() if "num_batches" not in name}
        export._write(path, to_torchvision(kept))
        assert load_file(path)["bn1.num_batches_tracked"].shape == ()
    elif form == "safetensors":
        path.write_bytes(safetensors_bytes(arrays))
    else:
        torch.save(OrderedDict(state), path, _use_new_zipfile_serialization=form == "pth")
    found = model_tensors(_begin(path, dtype="float64").model)
    for name, tensor in found.items():
        assert tensor.dtype == torch.float64
        np.testing.assert_array_equal(tensor.detach().numpy(), arrays[name], err_msg=name)


def test_a_run_that_goes_on_has_no_use_for_it(tmp_path):
    _begin(tmp_path / "nowhere.pth", resumed=tmp_path)


def _refused(path, message):
    with pytest.raises(UserError) as caught:
        read_weights(path, read_pth)
    assert "\n" not in str(caught.value)
    assert re.match(re.escape(f"--initial-checkpoint {path}: {message}"), str(caught.value)), str(caught.value)


@pytest.mark.parametrize("form", ["pickle", "torch", "old torch", "inside"])
def test_a_pickle_that_would_execute_something(tmp_path, form):
    marker, path = tmp_path / "executed", tmp_path / "w.pth"
    malice = Malice(marker)
    if form == "pickle":
        path.write_bytes(pickle.dumps(malice))
    elif form == "inside":
        torch.save({**_state(), "extra": malice}, path)
    else:
        torch.save(malice, path, _use_new_zipfile_serialization=form == "torch")
    _refused(path, "cannot be read as tensors alone (Weights only load failed. ")
    assert not marker.exists()
    with path.open("rb") as file, contextlib.suppress(RuntimeError):  # it would have been
        torch.load(file, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("content", [b"", b"\x80", b"PK\x03\x04", bytes(range(64, 128)), b"\x80\x02c"])
def test_a_damaged_file(tmp_path, content):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    _refused(path, "cannot be read as tensors alone (")


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        ([torch.ones(1)], "holds no plain dictionary of tensors by name"),
        ({"state_dict": {"w": torch.ones(1)}}, "holds no plain dictionary of tensors by name"),
        ({7: torch.ones(1)}, "holds no plain dictionary of tensors by name"),
        (
            {"w": torch.ones(1, dtype=torch.float16)},
            "tensor 'w' is torch.float16, torch.strided, which weights are not",
        ),
        ({"w": torch.ones(1).to_sparse()}, "tensor 'w' is torch.float32, torch.sparse_coo, which weights are not"),
        ({"w": torch.tensor([1.0, float("nan")])}, "w has numbers that are not finite; take other weights"),
    ],
)
def test_a_file_of_anything_else(tmp_path, loaded, message):
    path = tmp_path / "w.pth"
    torch.save(loaded, path)
    _refused(path, message)


def test_files_that_are_not_there_or_of_another_kind(tmp_path):
    _refused(tmp_path / "w.pth", "cannot be read (No such file or directory)")
    _refused(tmp_path / "w.safetensors", "cannot be read (No such file or directory)")
    _refused(tmp_path / "w.pkl", "must end in .safetensors or .pth")
    (tmp_path / "w.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    _refused(tmp_path / "w.safetensors", "no valid safetensors file (Error while deserializing: header too large)")


def test_keras_takes_no_pth(tmp_path):
    with pytest.raises(UserError, match=r"w\.pth: must end in \.safetensors with --framework keras$"):
        read_weights(tmp_path / "w.pth")


def test_weights_of_another_number_of_classes(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(_state(classes=5), path)
    with pytest.raises(UserError, match=r"w\.pth: fc\.(weight|bias) has shape \(5,.*the model wants \(10,"):
        _begin(path)
