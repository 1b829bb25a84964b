"""Which environment variables a job gets: an allow-list, so that no password leaves the shell by chance."""

import re
from collections.abc import Iterable, Mapping

from hvd_imagenet.errors import UserError

_NAMES = frozenset(
    [
        "CC",
        "COLUMNS",
        "CXX",
        "GLIBC_TUNABLES",
        "HOME",
        "HOSTNAME",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "LINES",
        "LOGNAME",
        "NO_COLOR",
        "PATH",
        "PWD",
        "SHELL",
        # mpirun starts its daemons on other hosts through ssh, which asks the agent behind this socket.
        "SSH_AUTH_SOCK",
        "TEMP",
        "TERM",
        "TMP",
        "TMPDIR",
        "TZ",
        "USER",
        "VIRTUAL_ENV",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_RUNTIME_DIR",
    ]
)
_PREFIXES = (
    # The interpreter, and numerical libraries
    *("LC_", "PYTHON", "CONDA_", "OMP_", "GOMP_", "KMP_", "MKL_", "DNNL_", "ONEDNN_", "OPENBLAS_", "MALLOC_"),
    # The frameworks
    *("TF_", "XLA_", "KERAS_", "TORCH_", "TORCHINDUCTOR_", "PYTORCH_", "HOROVOD_", "HVD_IMAGENET_"),
    # GPUs
    *("CUDA_", "CUDNN_", "CUBLAS_", "NVIDIA_", "NCCL_", "HIP_", "ROCM_", "ROCR_", "RCCL_", "MIOPEN_"),
    # MPI, networks, batch systems
    *("OMPI_", "OPAL_", "PMIX_", "PRTE_", "MPICH_", "MPIR_", "I_MPI_", "HYDRA_", "UCX_", "UCC_", "FI_"),
    *("SLURM_", "PBS_", "LSB_"),
)
# SLURM_JWT and Terraform's TF_VAR_… and TF_TOKEN_… begin like what is allowed.
_CREDENTIAL = re.compile(r"(KEY|TOKENS?|SECRET|PASSWORD|PASSWD|CREDENTIALS?|JWT)(_|$)|^TF_VAR_", re.IGNORECASE)
_OWN_PREFIX = "HVD_IMAGENET_"
PASS_ENV = "HOROVOD_PASS_ENV"
"""Names that make the allow-list of our build of horovodrun longer."""
# What training programs read of tools that keep track of runs or hold data: worth a word where it is left out.
_TOOLS = (
    "WANDB_",
    "MLFLOW_",
    "COMET_",
    "NEPTUNE_",
    "CLEARML_",
    "HF_",
    "KAGGLE_",
    "AWS_ACCESS_",
    "AZURE_STORAGE_",
    "GOOGLE_APPLICATION_",
)


def is_allowed(name: str, extra: Iterable[str] = ()) -> bool:
    """Whether the processes of a job get a variable.

    Args:
        name: of the variable.
        extra: names that the user allows on top; one that ends in `*` stands for all that begin so.

    Returns:
        True for what the interpreter, the frameworks, GPUs, MPI and batch systems read, unless the name is that of a
        password or key.

    Example:
        >>> is_allowed("NCCL_DEBUG"), is_allowed("WANDB_API_KEY"), is_allowed("SLURM_JWT")
        (True, False, False)
        >>> is_allowed("WANDB_API_KEY", ["WANDB_*"])
        True
    """
    if any(name == one or (one.endswith("*") and name.startswith(one[:-1])) for one in extra):
        return True
    if name.startswith(_OWN_PREFIX):
        return True
    return (name in _NAMES or name.startswith(_PREFIXES)) and not _CREDENTIAL.search(name)


def allowed_environment(environment: Mapping[str, str], extra: Iterable[str] = ()) -> dict[str, str]:
    """The variables that the processes of a job get.

    Args:
        environment: all variables.
        extra: names that the user allows on top, as `is_allowed` takes them.

    Returns:
        A new mapping. It tells horovodrun, where that is what starts the processes, of the extra names too.

    Raises:
        UserError: `extra` holds what is no name, or the name of a variable that is not set.

    Example:
        >>> allowed_environment({"HOME": "/h", "WANDB_API_KEY": "x", "FOO": "1"}, extra=["FOO"])
        {'HOME': '/h', 'FOO': '1', 'HOROVOD_PASS_ENV': 'FOO'}
    """
    extra = list(extra)
    for one in extra:
        _check(one, environment)
    allowed = {name: value for name, value in environment.items() if is_allowed(name, extra)}
    if extra:
        allowed[PASS_ENV] = ",".join([*filter(None, [allowed.get(PASS_ENV)]), *extra])
    return allowed


def _check(extra: str, environment: Mapping[str, str]) -> None:
    """Raises UserError unless `extra` is a name that is set, or a beginning with `*`."""
    name, equals, _ = extra.partition("=")
    if equals:
        raise UserError(
            f"--env {name}=…: it takes the name alone, since others can read what is on a command line; "
            f"set the variable before: {name}=… hvd-imagenet launch --env {name} …"
        )
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\*?", extra):
        raise UserError(f"--env {extra!r}: not a variable's name; a name, or a beginning of one with * behind it, is")
    if not extra.endswith("*") and extra not in environment:
        raise UserError(f"--env {extra}: there is no such variable to pass on; export it first")


def tools_left_out(environment: Mapping[str, str], extra: Iterable[str] = ()) -> list[str]:
    """Variables that the job does not get, though its program may well look for them.

    Args:
        environment: all variables.
        extra: names that the user allows on top, as `is_allowed` takes them.

    Returns:
        Names in alphabetical order: those of experiment trackers and of stores of data.

    Example:
        >>> tools_left_out({"WANDB_API_KEY": "x", "HOME": "/h", "GITHUB_TOKEN": "y"})
        ['WANDB_API_KEY']
    """
    extra = list(extra)
    return sorted(name for name in environment if name.startswith(_TOOLS) and not is_allowed(name, extra))
