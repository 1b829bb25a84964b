"""`doctor`: all the checks, in the order in which they are shown."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from hvd_imagenet.horovod_build.doctor_host import (
    check_cores,
    check_gpus,
    check_host_name,
    check_interface,
    check_locked_memory,
    check_shared_memory,
    gpu_names,
)
from hvd_imagenet.horovod_build.doctor_security import check_security
from hvd_imagenet.horovod_build.doctor_software import (
    check_build_tools,
    check_controller,
    check_decoder,
    check_frameworks,
    check_horovod,
    check_mpirun,
)
from hvd_imagenet.horovod_build.finding import Finding


def checks(gpus: Sequence[str]) -> list[Callable[[], Iterator[Finding]]]:
    """All the checks of a host.

    Args:
        gpus: the names of its GPUs.

    Returns:
        Functions that look, in the order in which their findings are shown.
    """
    return [
        check_frameworks,
        check_horovod,
        check_security,
        check_controller,
        check_mpirun,
        check_interface,
        check_host_name,
        check_cores,
        partial(check_shared_memory, len(gpus)),
        check_locked_memory,
        partial(check_gpus, gpus),
        check_decoder,
        check_build_tools,
    ]


def examine(gpus: Sequence[str] | None = None) -> list[Finding]:
    """Runs all the checks; takes some seconds, since Horovod is started once for each framework.

    Args:
        gpus: the names of this host's GPUs, where the driver has been asked already.

    Returns:
        What was found.
    """
    return [finding for check in checks(gpu_names() if gpus is None else gpus) for finding in check()]
