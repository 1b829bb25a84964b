"""What is to be started, as it is told to any launcher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hvd_imagenet.launcher.environment import TERMINAL_VARIABLE
from hvd_imagenet.launcher.hosts import Place, fullest
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.tuning import DEFAULT, Tuning, tuning_variables


@dataclass(frozen=True)
class Start:
    """The processes of one start of a job.

    Args:
        processes: how many to start.
        command: the program of every process, and its arguments.
        machine: what the processes of a host share, of the smallest host.
        environment: the variables that the processes inherit. Of these none is written into an argument list, where
            other users of the machine could read a password; only what is chosen here is.
        terminal: whether what the processes print goes to a terminal.
        places: the hosts; none for this machine.
        interface: the network interface for all traffic between hosts; None leaves the choice to MPI, or to Horovod.
        forwarded: names of the variables that other hosts get from here; the values travel over the launcher's own
            connection.
        chosen: of tuning, by the user.
        start_timeout_s: for how long all processes may take to come up.

    Example:
        >>> start = Start(3, ["true"], Machine(2, 0, True), places=[Place("node1", 2), Place("node2", 1)])
        >>> start.hosts, start.fullest, start.variables["OMP_NUM_THREADS"]
        ('node1:2,node2:1', 2, '1')
    """

    processes: int
    command: Sequence[str]
    machine: Machine
    environment: Mapping[str, str] = field(default_factory=dict)
    terminal: bool = False
    places: Sequence[Place] = ()
    interface: str | None = None
    forwarded: Sequence[str] = ()
    chosen: Tuning = DEFAULT
    start_timeout_s: float = 600.0

    @property
    def fullest(self) -> int:
        """Processes of the host that has most of them."""
        return fullest(self.places, self.processes)

    @property
    def hosts(self) -> str:
        """The hosts with the number of their processes, as launchers read them."""
        return ",".join(f"{place.host}:{place.processes}" for place in self.places)

    @property
    def variables(self) -> dict[str, str]:
        """The variables that any launcher sets: names and values."""
        return self._variables(mpi_within_host=False)

    @property
    def mpi_variables(self) -> dict[str, str]:
        """The same where MPI reduces."""
        return self._variables(mpi_within_host=len(self.places) < 2)

    def _variables(self, mpi_within_host: bool) -> dict[str, str]:
        values = tuning_variables(self.fullest, self.machine, self.environment, self.chosen, mpi_within_host)
        return values | ({TERMINAL_VARIABLE: "1"} if self.terminal else {})

    @property
    def network_variables(self) -> dict[str, str]:
        """Those that take Gloo and NCCL to the interface, where the launcher itself does not set them."""
        return {name: self.interface for name in ("HOROVOD_GLOO_IFACE", "NCCL_SOCKET_IFNAME") if self.interface}
