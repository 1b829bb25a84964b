"""The variables of a build for NVIDIA GPUs: where CUDA's toolkit is, and the NCCL that torch's wheels bring."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from hvd_imagenet.errors import UserError

_USUAL_HOME = "/usr/local/cuda"
# NVIDIA's and Debian's place, and conda's.
_HEADERS = ("include/cuda_runtime.h", "targets/*/include/cuda_runtime.h")


def cuda_home(environ: Mapping[str, str]) -> Path | None:
    """The folder of a CUDA toolkit with nvcc: the one that is named, else that of nvcc on PATH, else the usual one.

    Args:
        environ: environment variables.

    Returns:
        Its path, or None.

    Example:
        >>> cuda_home({"CUDA_HOME": "/nowhere"})
    """
    for name in ("HOROVOD_CUDA_HOME", "CUDA_HOME"):
        if environ.get(name):
            return Path(environ[name]) if _has_nvcc(Path(environ[name])) else None
    nvcc = shutil.which("nvcc", path=environ.get("PATH"))
    # The nvcc on PATH may be a script that calls the toolkit's: then there are no headers beside it.
    homes = [Path(nvcc).resolve().parents[1]] if nvcc else []
    homes = [home for home in homes if any(any(home.glob(header)) for header in _HEADERS)]
    return next((home for home in [*homes, Path(_USUAL_HOME)] if _has_nvcc(home)), None)


def _has_nvcc(home: Path) -> bool:
    return os.access(home / "bin" / "nvcc", os.X_OK)


def gpu_variables(environ: Mapping[str, str], packages: Path, frameworks: Mapping[str, str]) -> dict[str, str]:
    """The variables that a build for GPUs needs, less those that the user has set.

    Args:
        environ: environment variables. HOROVOD_GPU_OPERATIONS=NCCL asks for such a build; an empty value for none.
        packages: the environment's site-packages.
        frameworks: to build for, name → version. TensorFlow's builds for the CPU cannot be built for beside CUDA's.

    Returns:
        Names and values; empty for a build for the CPU. Unless the user asks for either, torch decides: with the NCCL
        of its wheels and with nvcc, and without TensorFlow, it is for GPUs.

    Raises:
        UserError: it was asked for, and there is no nvcc, or no NCCL.
    """
    asked = environ.get("HOROVOD_GPU_OPERATIONS")
    if asked is not None and asked.upper() != "NCCL":
        return {}
    home, nccl = cuda_home(environ), packages / "nvidia" / "nccl"
    named = any(environ.get(name) for name in ("HOROVOD_NCCL_HOME", "HOROVOD_NCCL_LIB"))
    brought = (nccl / "lib" / "libnccl.so.2").exists() and (nccl / "include" / "nccl.h").exists()
    if asked is None and (home is None or not brought or "tensorflow" in frameworks):
        return {}
    if home is None:
        raise UserError(
            "HOROVOD_GPU_OPERATIONS=NCCL: there is no nvcc (CUDA_HOME, PATH, /usr/local/cuda); install NVIDIA's CUDA "
            "toolkit of the version that torch.version.cuda says"
        )
    if not named and not brought:
        raise UserError(
            f"HOROVOD_GPU_OPERATIONS=NCCL: there is no NCCL in {nccl}; install a torch for CUDA, or name "
            "the folder that holds include/ and lib/ of NCCL with HOROVOD_NCCL_HOME"
        )
    values = {"HOROVOD_GPU_OPERATIONS": "NCCL", "CUDA_HOME": str(home), "HOROVOD_CUDA_HOME": str(home)}
    if not named:
        values |= {"HOROVOD_NCCL_HOME": str(nccl), "HOROVOD_NCCL_LINK": "SHARED"}
    return {name: value for name, value in values.items() if not environ.get(name)}


def name_for_the_linker(nccl: Path) -> None:
    """Gives the NCCL of torch's wheels, libnccl.so.2, the name that a linker looks for.

    Args:
        nccl: its folder.
    """
    link = nccl / "lib" / "libnccl.so"
    if not link.exists() and (nccl / "lib" / "libnccl.so.2").exists():
        link.symlink_to("libnccl.so.2")
