"""`doctor`: all the checks, in the order in which they are shown."""

from hvd_imagenet.horovod_build.doctor_host import (
    check_cores,
    check_gpus,
    check_host_name,
    check_interface,
    check_locked_memory,
    check_shared_memory,
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

CHECKS = (
    check_frameworks,
    check_horovod,
    check_security,
    check_controller,
    check_mpirun,
    check_interface,
    check_host_name,
    check_cores,
    check_shared_memory,
    check_locked_memory,
    check_gpus,
    check_decoder,
    check_build_tools,
)


def examine() -> list[Finding]:
    """Runs all the checks; takes some seconds, since Horovod is started once for each framework.

    Returns:
        What was found.
    """
    return [finding for check in CHECKS for finding in check()]
