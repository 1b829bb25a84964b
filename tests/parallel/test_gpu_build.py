"""`install-horovod` for CUDA: compiled by nvcc, linked against the NCCL that torch's wheels bring; `make test-gpu`.

It needs no GPU; where there is one, Horovod reduces on it as well. An environment of its own holds the gigabytes that
torch brings with CUDA, and is removed at the end.
"""

import configparser
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from ranks import ROOT, run
from readme_commands import shown

from hvd_imagenet.horovod_build.gpu import cuda_home
from hvd_imagenet.launcher.machine import this_machine

pytestmark = [pytest.mark.gpu_build, pytest.mark.timeout(4500)]

TORCH = os.environ.get("GPU_TORCH", "")
"""A version whose build for PyPI has CUDA; that of constraints.txt if empty."""
# As it stands in README.
BUILD = "HOROVOD_GPU_OPERATIONS=NCCL CUDA_HOME=/usr/local/cuda .venv/bin/hvd-imagenet install-horovod"
# hvd-imagenet of an environment in which this checkout is not installed.
PROGRAM = '#!/bin/sh\nexec "${0%/*}/python" -m hvd_imagenet "$@"\n'
FREE_BYTES = 15e9
INSTALLED_WITHIN_S, BUILT_WITHIN_S = 1500, 2400
# One architecture of GPUs is enough to compile and link; each one more takes its time.
CAPABILITIES = "90"
REDUCE = """
import sys
import torch
import horovod.torch as hvd

hvd.init()
device = torch.device(sys.argv[1], hvd.local_rank() if sys.argv[1] == "cuda" else None)
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    ones = torch.ones(1 << 20, dtype=dtype, device=device)
    assert hvd.allreduce(ones, op=hvd.Sum, name=str(dtype)).eq(hvd.size()).all()
built = [name for name in ("cuda", "gloo", "mpi", "nccl") if getattr(hvd, name + "_built")()]
print("built with", *built, flush=True)
hvd.shutdown()
"""


class Environment(NamedTuple):
    """An environment with torch for CUDA, and Horovod built there.

    Args:
        python: its interpreter.
        packages: its site-packages.
        variables: that reach both.
    """

    python: Path
    packages: Path
    variables: dict[str, str]


def cuda_version(home: Path) -> str:
    """The version of nvcc, as in 13.0."""
    said = subprocess.run([home / "bin" / "nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"release (\d+\.\d+)", said)
    assert found, said
    return found[1]


def requirements() -> list[str]:
    """What setup.cfg asks for, to train with PyTorch and to build Horovod."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    lines = "\n".join([setup["options"]["install_requires"], extras["horovod"], extras["torch"]]).splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def succeed(*words: str | Path, timeout_s: float, **variables: str) -> str:
    """What a command prints, which must be a success."""
    done = run([str(word) for word in words], timeout_s=timeout_s, **variables)
    assert done.returncode == 0, f"{words}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def home() -> Path:
    """Of CUDA; skipped where there is no nvcc."""
    found = cuda_home(os.environ)
    if found is None:
        pytest.skip(
            "no nvcc in CUDA_HOME, on PATH or in /usr/local/cuda; install NVIDIA's CUDA toolkit (no GPU needed)"
        )
    return found


@pytest.fixture(scope="module")
def folder(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """For everything, and removed whatever happens; pytest would keep it for three runs."""
    base = tmp_path_factory.getbasetemp()
    free = shutil.disk_usage(base).free
    if free < FREE_BYTES:
        pytest.skip(
            f"torch with CUDA needs {FREE_BYTES / 1e9:.0f} GB, {base} has {free / 1e9:.0f}; see pytest --basetemp"
        )
    with tempfile.TemporaryDirectory(dir=base) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def environment(home: Path, folder: Path) -> Environment:
    """As `make setup` makes it, with torch for CUDA in the place of that for the CPU."""
    python = folder / ".venv" / "bin" / "python"
    pins = (ROOT / "constraints.txt").read_text()
    pins = re.sub(r"^torch==.*$", f"torch=={TORCH}" if TORCH else r"\g<0>", pins, flags=re.MULTILINE)
    (folder / "constraints.txt").write_text(pins)
    succeed(sys.executable, "-m", "venv", folder / ".venv", timeout_s=120)
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    succeed(*pip, "--constraint", folder / "constraints.txt", *requirements(), timeout_s=INSTALLED_WITHIN_S)
    ask = "import sysconfig, torch; print(sysconfig.get_path('purelib'), torch.__version__, torch.version.cuda)"
    packages, torch, cuda = succeed(python, "-c", ask, timeout_s=120).split()
    assert cuda != "None", (
        f"pip gave torch {torch}, which is for the CPU; name another: make test-gpu GPU_TORCH=VERSION"
    )
    nvcc = cuda_version(home)
    assert nvcc.split(".")[0] == cuda.split(".")[0], f"nvcc {nvcc} does not go with torch {torch}, which is for {cuda}"
    (python.parent / "hvd-imagenet").write_text(PROGRAM)
    (python.parent / "hvd-imagenet").chmod(0o755)
    variables = {
        "PATH": os.pathsep.join([str(python.parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    typed = shown(BUILD, {"/usr/local/cuda": str(home)})
    build = run(
        ["sh", "-ec", typed], timeout_s=BUILT_WITHIN_S, cwd=folder, HOROVOD_BUILD_CUDA_CC_LIST=CAPABILITIES, **variables
    )
    assert build.returncode == 0, f"{build.stdout[-4000:]}\n{build.stderr[-8000:]}"
    return Environment(python, Path(packages), variables)


def test_nccl_is_linked(environment: Environment) -> None:
    (library,) = (environment.packages / "horovod" / "torch").glob("mpi_lib_v2*.so")
    linked = succeed("readelf", "--wide", "--dynamic", "--dyn-syms", library, timeout_s=60)
    assert "[libnccl.so.2]" in linked
    assert re.search(r"UND ncclAllReduce\b", linked)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_ranks_reduce(environment: Environment, device: str) -> None:
    """On the CPU over MPI, as without CUDA; on GPUs over NCCL."""
    gpus = this_machine().gpus
    if device == "cuda" and not gpus:
        pytest.skip("no GPU here")
    ranks = 2 if device == "cpu" else min(2, gpus)
    words = ["launch", "-np", str(ranks), "--", environment.python, "-c", REDUCE, device]
    printed = succeed(environment.python, "-m", "hvd_imagenet", *words, timeout_s=300, **environment.variables)
    assert printed.splitlines() == ["built with cuda gloo mpi nccl"] * ranks


@pytest.mark.parametrize("ranks", [1, 2])
def test_training_on_gpus(environment: Environment, ranks: int, few_digits: Path, folder: Path) -> None:
    """Over NCCL, in bfloat16, channels last; every rank on a GPU of its own."""
    if this_machine().gpus < ranks:
        pytest.skip(f"needs {ranks} GPU{'s' if ranks > 1 else ''}, here are {this_machine().gpus}")
    out = folder / f"run-{ranks}"
    options = ["--recipe", "digits", "--epochs", "2", "--amp-dtype", "bfloat16", "--channels-last"]
    words = ["launch", "-np", str(ranks), "--", "train", *options, "--data", str(few_digits), "--out", str(out)]
    printed = succeed(environment.python, "-m", "hvd_imagenet", *words, timeout_s=300, **environment.variables)
    assert "cuda" in printed
    assert (out / "summary.json").exists()
