"""The argument list of horovodrun, for jobs over Gloo."""

import math

from hvd_imagenet.launcher.allowed_environment import PASS_ENV
from hvd_imagenet.launcher.start import Start

GLOO_TIMEOUT_S = 600
"""Gloo's own 30 s are too short for many hosts to connect (from 32 on, up to 240 s), and for any that wait for a rank
which saves a checkpoint alone."""


def horovodrun_command(horovodrun: str, start: Start) -> list[str]:
    """The whole argument list.

    Args:
        horovodrun: its path.
        start: what to start; its `forwarded` are horovodrun's own to choose.

    Returns:
        env with what is chosen here, horovodrun, its options, and the command.

    Example:
        >>> from hvd_imagenet.launcher.machine import Machine
        >>> print(*horovodrun_command("horovodrun", Start(2, ["true"], Machine(2, 0, True))))
        ... # doctest: +NORMALIZE_WHITESPACE, +ELLIPSIS
        env OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 GLIBC_TUNABLES=glibc... HOROVOD_CYCLE_TIME=20
            HOROVOD_GLOO_TIMEOUT_SECONDS=600 horovodrun --gloo --disable-cache --start-timeout 600 -np 2 true
    """
    variables = start.variables
    if "HOROVOD_GLOO_TIMEOUT_SECONDS" not in start.environment:
        variables["HOROVOD_GLOO_TIMEOUT_SECONDS"] = str(GLOO_TIMEOUT_S)
    # Names alone; the shell in which somebody pastes the line of a dry run has the values, and has not these.
    if PASS_ENV in start.environment:
        variables[PASS_ENV] = start.environment[PASS_ENV]
    words = ["env", *(f"{name}={value}" for name, value in variables.items())]
    words += [horovodrun, "--gloo", "--disable-cache"]
    # Its own 30 s are too short for Python on a network file system, or many hosts.
    if "HOROVOD_START_TIMEOUT" not in start.environment:
        words += ["--start-timeout", str(max(1, math.ceil(start.start_timeout_s)))]
    words += ["-np", str(start.processes)]
    if start.places:
        words += ["-H", start.hosts]
    if start.interface:
        words += ["--network-interface", start.interface]
    return [*words, *start.command]
