"""What makes a job fast, or shows why it is not: defaults for a machine, and the user's own choices."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.machine import Machine

# Horovod's background thread looks for work once a cycle. Often, and it takes a core from what computes there, unless
# each rank has cores of its own and MPI yields them; rarely, and steps wait. A GPU's processes keep Horovod's 1 ms.
# benchmarks/cycle_time.py weighs one against the other: benchmarks/results/cycle_time.json, of_fastest.
CPU_CYCLE_TIME_MS, BOUND_CYCLE_TIME_MS = 20, 2
# Within a host messages are copies in memory, and what is fused is copied twice more. ResNet-50's gradients take a
# third of the time that they take at Horovod's 128 MiB: benchmarks/results/allreduce.json, fusion_threshold_mb.
HOST_FUSION_MB = 1
# glibc hands large blocks back to Linux and soon asks for them again, page by page, each of which Linux clears. So
# memory is kept, in huge pages. DDP's steps take 6 % less time so with ResNet-50, 14 % with ResNet-20, and mpi4py's
# allreduce a third: benchmarks/results, step_overhead.json (ddp_tuned_channels_last_kept_memory) and allreduce.json.
KEPT_MEMORY = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736:glibc.malloc.hugetlb=1"
}
_MOST_MB, _MOST_MS = 2**20, 10**5

# What `--allreduce-algorithm` takes → the number of Open MPI's coll/tuned.
_OF_OPEN_MPI = {
    "linear": "1",
    "nonoverlapping": "2",
    "recursive-doubling": "3",
    "ring": "4",
    "segmented-ring": "5",
    "rabenseifner": "6",
}
ALGORITHMS = tuple(_OF_OPEN_MPI)
# Likewise → MPICH's name, and the first version that knows it: MPI_Init fails for a name that it does not know.
_OF_MPICH = {
    "recursive-doubling": ("recursive_doubling", (3, 3)),
    "ring": ("ring", (4, 1)),
    "rabenseifner": ("reduce_scatter_allgather", (3, 3)),
}


@dataclass(frozen=True)
class Tuning:
    """What the user has chosen of Horovod's and MPI's tuning.

    Args:
        timeline: file for Horovod's timeline of every tensor, written by rank 0; None for no timeline.
        autotune: whether Horovod looks for the best fusion threshold and cycle time during the run.
        fusion_threshold_mb: bytes that Horovod reduces at once, in MiB; 0 for no fusion, None for its default.
        cycle_time_ms: between two looks for tensors to reduce; None for the default.
        hierarchical_allreduce: whether NCCL reduces within a host before MPI does between hosts.
        allreduce_algorithm: of MPI, one of ALGORITHMS; None leaves the choice to MPI, by size and processes.

    Raises:
        UserError: a value that cannot be.

    Example:
        >>> Tuning(fusion_threshold_mb=64, cycle_time_ms=2.5).variables
        {'HOROVOD_FUSION_THRESHOLD': '67108864', 'HOROVOD_CYCLE_TIME': '2.5'}
    """

    timeline: Path | None = None
    autotune: bool = False
    fusion_threshold_mb: float | None = None
    cycle_time_ms: float | None = None
    hierarchical_allreduce: bool = False
    allreduce_algorithm: str | None = None

    def __post_init__(self) -> None:
        if self.fusion_threshold_mb is not None and not 0 <= self.fusion_threshold_mb <= _MOST_MB:
            raise UserError(f"--fusion-threshold-mb {self.fusion_threshold_mb:g}: MiB, 0 (no fusion) to {_MOST_MB}")
        if self.cycle_time_ms is not None and not 0 < self.cycle_time_ms <= _MOST_MS:
            raise UserError(f"--cycle-time-ms {self.cycle_time_ms:g}: milliseconds, more than 0, at most {_MOST_MS}")
        if self.timeline is not None and (self.timeline.is_dir() or not self.timeline.absolute().parent.is_dir()):
            raise UserError(f"--timeline {self.timeline}: must be a file in a folder that is there")

    @property
    def variables(self) -> dict[str, str]:
        """The variables that Horovod reads the choices from."""
        values: dict[str, str] = {}
        if self.timeline is not None:
            values["HOROVOD_TIMELINE"] = str(self.timeline.absolute())
        if self.autotune:
            values["HOROVOD_AUTOTUNE"] = "1"
        if self.fusion_threshold_mb is not None:
            values["HOROVOD_FUSION_THRESHOLD"] = str(int(self.fusion_threshold_mb * 2**20))
        if self.cycle_time_ms is not None:
            values["HOROVOD_CYCLE_TIME"] = f"{self.cycle_time_ms:g}"
        if self.hierarchical_allreduce:
            values["HOROVOD_HIERARCHICAL_ALLREDUCE"] = "1"
        return values


DEFAULT = Tuning()


def tuning_variables(
    processes: int,
    machine: Machine,
    environment: Mapping[str, str],
    chosen: Tuning = DEFAULT,
    mpi_within_host: bool = False,
) -> dict[str, str]:
    """The variables that a run on this machine needs to be fast, less those that the user has set.

    Args:
        processes: how many are started on the fullest host.
        machine: what they share.
        environment: the variables that they inherit.
        chosen: by the user's options, which win over the environment.
        mpi_within_host: whether MPI reduces, and all processes are on one host.

    Returns:
        Names and values. Threads: an equal share of the cores for PyTorch and numpy (OpenMP) and for TensorFlow.
        Without GPUs also how glibc keeps memory, and Horovod's cycle time and fusion.

    Example:
        >>> tuning_variables(2, Machine(cores=8, gpus=0, whole=True), {"OMP_NUM_THREADS": "1", "GLIBC_TUNABLES": ""})
        {'TF_NUM_INTRAOP_THREADS': '4', 'HOROVOD_CYCLE_TIME': '20'}
    """
    threads = str(max(1, machine.cores // processes))
    values = {"OMP_NUM_THREADS": threads, "TF_NUM_INTRAOP_THREADS": threads}
    if machine.gpus == 0:
        values |= KEPT_MEMORY
    # Horovod does not tune what is set.
    if machine.gpus == 0 and not chosen.autotune:
        bound = mpi_within_host and machine.binds(processes)
        values["HOROVOD_CYCLE_TIME"] = str(BOUND_CYCLE_TIME_MS if bound else CPU_CYCLE_TIME_MS)
        if mpi_within_host:
            values["HOROVOD_FUSION_THRESHOLD"] = str(HOST_FUSION_MB * 2**20)
    return {name: value for name, value in values.items() if name not in environment} | chosen.variables


def open_mpi_parameters(chosen: Tuning, environment: Mapping[str, str]) -> dict[str, str]:
    """The parameters of Open MPI that fix the algorithm of its allreduce.

    Args:
        chosen: by the user's options.
        environment: the variables that the processes inherit.

    Returns:
        Names and values, for --mca or as OMPI_MCA_…; empty where Open MPI chooses. What would be asked before
        coll/tuned on several hosts is left out, unless the user has a list of such components themselves.

    Example:
        >>> open_mpi_parameters(Tuning(allreduce_algorithm="ring"), {"OMPI_MCA_coll": "tuned,basic"})
        {'coll_tuned_use_dynamic_rules': '1', 'coll_tuned_allreduce_algorithm': '4'}
    """
    if chosen.allreduce_algorithm is None:
        return {}
    number = _OF_OPEN_MPI[chosen.allreduce_algorithm]
    values = {"coll_tuned_use_dynamic_rules": "1", "coll_tuned_allreduce_algorithm": number}
    return values if "OMPI_MCA_coll" in environment else {"coll": "^han,hcoll,ucc", **values}


def mpich_variables(chosen: Tuning, version: tuple[int, ...]) -> dict[str, str]:
    """The variables that fix the algorithm of MPICH's allreduce.

    Args:
        chosen: by the user's options.
        version: of MPICH; empty for another MPI.

    Returns:
        Names and values; empty where MPICH chooses. What would reduce within each host first, in a way of its own, is
        switched off.

    Raises:
        UserError: this MPI does not have the algorithm.

    Example:
        >>> mpich_variables(Tuning(allreduce_algorithm="rabenseifner"), (4, 0))  # doctest: +NORMALIZE_WHITESPACE
        {'MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM': 'reduce_scatter_allgather',
         'MPIR_CVAR_ALLREDUCE_DEVICE_COLLECTIVE': '0'}
    """
    asked = chosen.allreduce_algorithm
    if asked is None:
        return {}
    if not version:
        raise UserError(
            f"--allreduce-algorithm {asked}: of Open MPI and MPICH alone; leave it out (Intel MPI reads "
            "I_MPI_ADJUST_ALLREDUCE)"
        )
    there = {ours: theirs for ours, (theirs, since) in _OF_MPICH.items() if version >= since}
    if asked not in there:
        release = ".".join(map(str, version))
        raise UserError(f"--allreduce-algorithm {asked}: MPICH {release} does not have it; it has {', '.join(there)}")
    return {"MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM": there[asked], "MPIR_CVAR_ALLREDUCE_DEVICE_COLLECTIVE": "0"}


def tuning_notes(chosen: Tuning, launcher: str, machine: Machine) -> list[str]:
    """What the user should know of their choices before the start.

    Args:
        chosen: by the user's options.
        launcher: mpirun, srun or horovodrun.
        machine: what the processes of a host share.

    Returns:
        Lines to show, perhaps none.

    Raises:
        UserError: a choice that cannot be had with this launcher.

    Example:
        >>> tuning_notes(Tuning(allreduce_algorithm="ring"), "mpirun", Machine(cores=2, gpus=0, whole=True))
        ['launch: MPI reduces by ring (--allreduce-algorithm)']
    """
    notes = []
    if chosen.allreduce_algorithm is not None:
        if launcher == "horovodrun":
            raise UserError(
                f"--allreduce-algorithm {chosen.allreduce_algorithm}: horovodrun reduces over Gloo, whose algorithm "
                "Horovod chooses; leave it out, or use --launcher mpirun"
            )
        where = "MPI reduces" if machine.gpus == 0 else "what MPI reduces (NCCL has NCCL_ALGO) is reduced"
        notes.append(f"launch: {where} by {chosen.allreduce_algorithm} (--allreduce-algorithm)")
    if chosen.hierarchical_allreduce and machine.gpus == 0:
        notes.append("note: --hierarchical-allreduce changes nothing without GPUs: within hosts it reduces by NCCL")
    return notes
