"""`install-horovod`: from the cache where possible, else built; then installed and tried."""

import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build import wheel_cache
from hvd_imagenet.horovod_build.builder import build_info, build_wheel, default_jobs
from hvd_imagenet.horovod_build.gpu import gpu_variables, name_for_the_linker
from hvd_imagenet.horovod_build.inputs import BuildInputs, gather_inputs, requested_frameworks
from hvd_imagenet.horovod_build.installed import has_extension, read_build_info
from hvd_imagenet.horovod_build.patch import apply_patches
from hvd_imagenet.horovod_build.patches import PATCHES
from hvd_imagenet.horovod_build.progress import BuildProgress
from hvd_imagenet.horovod_build.refresh import refreshed_wheel
from hvd_imagenet.horovod_build.source import VERSION, cache_root, fetch_sdist, unpack
from hvd_imagenet.horovod_build.toolchain import Toolchain, find_toolchain

# Run in a process of its own; the framework first, as users import it.
_TRIAL = "import {framework}, horovod.{framework} as hvd; hvd.init(); assert hvd.size() == 1"


def _is_installed(inputs: BuildInputs) -> bool:
    info = read_build_info()
    return info is not None and info.key == inputs.key() and all(has_extension(name) for name, _ in inputs.frameworks)


def _cached(root: Path, key: str, progress: BuildProgress) -> Path | None:
    try:
        return wheel_cache.load(root, key)
    except wheel_cache.CorruptWheelError as error:
        progress.say(f"the cached wheel is damaged and will be built again ({error})")
        return None


def _pip_install(wheel: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    command += ["--no-deps", "--no-index", "--force-reinstall", str(wheel)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        last = (done.stdout.strip().splitlines() or ["pip gave no reason"])[-1]
        raise UserError(f"pip could not install {wheel.name}: {last}; is {sysconfig.get_path('purelib')} writable?")


def try_import(framework: str) -> None:
    """Starts Horovod for a framework in a fresh process of one rank.

    Args:
        framework: "torch" or "tensorflow".

    Raises:
        UserError: it does not start; the message holds the reason.
    """
    command = [sys.executable, "-c", _TRIAL.format(framework=framework)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        last = (done.stdout.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise UserError(f"Horovod was built and installed, but horovod.{framework} does not start: {last}")


def _refreshed(root: Path, inputs: BuildInputs, folder: Path, progress: BuildProgress) -> Path | None:
    """The wheel made from a cached one that differs in Python files alone, or None where there is none."""
    compiled = wheel_cache.load_compiled(root, inputs.compiled_key())
    if compiled is None:
        return None
    progress.say(f"nothing needs compiling: patching the Python files of {compiled}")
    sources = unpack(fetch_sdist(root), folder)
    apply_patches(sources, PATCHES)
    return refreshed_wheel(compiled, sources, build_info(inputs), folder)


def _build(
    root: Path, toolchain: Toolchain, inputs: BuildInputs, environ: Mapping[str, str], jobs: int, folder: Path,
    progress: BuildProgress,
) -> Path:  # fmt: skip
    progress.say(f"fetching Horovod {VERSION} from the package index")
    sources = unpack(fetch_sdist(root), folder)
    apply_patches(sources, PATCHES)
    log = root / "logs" / f"horovod-{inputs.key()}.log"
    progress.say(f"building with {len(PATCHES)} patches, {jobs} at once; the full output goes to {log}")
    if nccl := environ.get("HOROVOD_NCCL_HOME"):
        name_for_the_linker(Path(nccl))
    return build_wheel(sources, toolchain, inputs, jobs, log, progress, environ)


def install_horovod(force: bool = False, jobs: int | None = None, progress: BuildProgress | None = None) -> None:
    """Installs Horovod for the frameworks of this environment.

    Args:
        force: build even where the cache holds the wheel, or just this build is installed.
        jobs: how many files to compile at once; by cores and memory if None.
        progress: told what happens; standard output if None.

    Raises:
        UserError: something is missing, or the build failed; the message says what to do.
    """
    progress = BuildProgress() if progress is None else progress
    started_s = time.monotonic()
    toolchain = find_toolchain()
    packages = Path(sysconfig.get_path("platlib"))
    environ = {**os.environ, **gpu_variables(os.environ, packages, requested_frameworks(os.environ))}
    inputs = gather_inputs(toolchain, packages, environ)
    built_for = ", ".join(f"{name} {version}" for name, version in inputs.frameworks)
    if not force and _is_installed(inputs):
        progress.say(f"Horovod {VERSION} for {built_for} is installed already (build {inputs.key()}); --force rebuilds")
        return
    root = cache_root()
    wheel = None if force else _cached(root, inputs.key(), progress)
    if wheel is not None:
        progress.say(f"installing Horovod {VERSION} for {built_for} from the cache: {wheel}")
        _pip_install(wheel)
    else:
        progress.say(f"Horovod {VERSION} for {built_for}, {toolchain.mpi_version or 'without MPI'}")
        with tempfile.TemporaryDirectory(prefix="hvd-imagenet-") as folder:
            built = None if force else _refreshed(root, inputs, Path(folder), progress)
            built = built or _build(root, toolchain, inputs, environ, jobs or default_jobs(), Path(folder), progress)
            _pip_install(built)
            for name, _ in inputs.frameworks:
                progress.say(f"trying horovod.{name}")
                try_import(name)
            # Only now: the cache holds no wheel that does not start.
            wheel_cache.store(root, inputs.key(), built, inputs.compiled_key())
    progress.say(f"installed Horovod {VERSION} for {built_for} in {time.monotonic() - started_s:.0f} s")
