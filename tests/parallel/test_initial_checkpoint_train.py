"""--initial-checkpoint in both frameworks, on two processes: rank 0 reads, all begin with the same weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import program, run
from training import tensors

from hvd_imagenet.torch.models import resnet8

# A learning rate that moves no float32.
SMALL = ["--recipe", "digits", "--model", "resnet8", "--image-size", "16", "--validation-resize", "16", "--model-ema"]
SMALL += ["--minibatch", "24", "--per-worker", "4", "--max-iterations", "1", "--reference-lr", "1e-12"]


@pytest.mark.parametrize(("framework", "ending"), [("torch", "pth"), ("keras", "safetensors")])
def test_the_run_begins_with_the_weights_of_the_file(
    few_digits: Path, tmp_path: Path, framework: str, ending: str
) -> None:
    torch.manual_seed(3)
    state, path = resnet8(num_classes=4).state_dict(), tmp_path / f"weights.{ending}"
    if ending == "pth":
        torch.save(state, path)
    else:
        from safetensors.numpy import save_file

        save_file({name: tensor.numpy() for name, tensor in state.items()}, path)
    words = ["train", *SMALL, "--framework", framework, "--data", str(few_digits), "--out", str(tmp_path / "run")]
    done = run(program("launch", "-np", "2", "--", *words, "--initial-checkpoint", str(path)), timeout_s=180)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("model", "model_ema"):
        for name, array in tensors(tmp_path / "run", part).items():
            if "running_" not in name:
                np.testing.assert_allclose(array, state[name].numpy(), rtol=0, atol=1e-9, err_msg=f"{part} {name}")
