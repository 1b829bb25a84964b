"""A Slurm of two nodes, from Debian's packages, on the hosts of network.py: node1 and node2 compute, node3 controls."""

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from network import Cluster

ROOT = Path(__file__).parents[2]
ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
"""States of jobs that are over."""

_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
_TOOLS = {"slurmctld": "slurmctld", "slurmd": "slurmd", "srun": "slurm-client", "munged": "munge"}
_FOREIGN = ("SLURM_", "SBATCH_", "PMIX_", "PMI_", "OMPI_", "PRTE_", "HOROVOD_", "HVD_IMAGENET_")
_START_TIMEOUT_S = 30.0
_PAUSE_S = 0.2
_DAEMONS = ("munged", "slurmctld", "slurmd", "slurmstepd", "slurmscriptd", "sshd")

# Hosts have a /run of their own, which munge's socket and those of PMIx need. A requeued job waits for as long as its
# credential is valid, and for the next round of the scheduler: by default 120 s and 60 s.
_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={controller.name}({controller.address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
TmpFS=/run
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
MailProg=/bin/true
{nodes}
PartitionName=usual Nodes=ALL Default=YES PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL PriorityTier=2
"""
_MUNGE = (
    'mkdir /run/munge && munged --force --key-file="$0/munge.key" --seed-file=/run/munge/seed --log-file=/run/munge/log'
)


def missing_packages() -> list[str]:
    """Debian's packages that are to be installed first."""
    missing = {package for tool, package in _TOOLS.items() if shutil.which(tool, path=_PATH) is None}
    # Slurm's plugin for PMIx opens libpmix.so by that name, which only the -dev package holds.
    if not any(Path("/usr/lib").glob("*/pmix2/lib/libpmix.so")):
        missing.add("libpmix-dev")
    return sorted(missing)


class Slurm:
    """A cluster under Slurm, two processors a node. What runs in it ends with the cluster.

    Args:
        cluster: of three hosts.
        folder: new and empty, for configuration, state and logs.

    Attributes:
        nodes: the hosts that compute.
    """

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._folder, self._cluster = folder, cluster
        *nodes, self._controller = cluster.hosts
        self.nodes = nodes
        (folder / "state").mkdir()
        configuration = folder / "slurm.conf"
        lines = "\n".join(f"NodeName={node.name} NodeAddr={node.address} CPUs=2" for node in nodes)
        configuration.write_text(_CONFIGURATION.format(controller=self._controller, nodes=lines, folder=folder))
        own = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        self._environment = {**own, "PATH": _PATH, "SLURM_CONF": str(configuration)}
        (folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (folder / "munge.key").chmod(0o400)
        for host in cluster.hosts:
            self._start(host.command(["sh", "-c", _MUNGE, str(folder)]))
        self._start(self._controller.command(["slurmctld"]))
        for node in nodes:
            self._start(node.command(["slurmd"]))
        self.until(self._is_idle, _START_TIMEOUT_S, "Slurm does not start")

    def _start(self, daemon: list[str]) -> None:
        """Runs what goes on in the background once it has begun to serve."""
        subprocess.run(daemon, env=self._environment, stdin=subprocess.DEVNULL, timeout=_START_TIMEOUT_S, check=True)

    def _is_idle(self) -> bool:
        return self.run("sinfo", "--noheader", "--format=%D %T", "--partition=usual").stdout.split() == ["2", "idle"]

    def until(self, is_so: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        """Waits until something is so; what Slurm's daemons have written is in the message otherwise."""
        give_up_at_s = time.monotonic() + timeout_s
        while not is_so():
            if time.monotonic() > give_up_at_s:
                logs = "\n".join(f"{log.name}:\n{log.read_text()}" for log in sorted(self._folder.glob("*.log")))
                raise TimeoutError(f"{otherwise} in {timeout_s:g} s\n{logs}")
            time.sleep(_PAUSE_S)

    def run(
        self, *words: str, timeout_s: float = 60, variables: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command to its end, where a user would: on the controller, in the project's folder.

        Args:
            words: the command and its arguments.
            timeout_s: after which the test fails.
            variables: of its environment.
        """
        return subprocess.run(
            self._controller.command(["env", f"--chdir={ROOT}", *words]),
            env={**self._environment, **(variables or {})}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=timeout_s, check=False,
        )  # fmt: skip

    def submit(self, *words: str, variables: dict[str, str] | None = None) -> str:
        """Calls sbatch.

        Args:
            words: its arguments.
            variables: of its environment.

        Returns:
            The job's number.
        """
        done = self.run("sbatch", "--parsable", *words, variables=variables)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job: JobState, ExitCode (`CODE:SIGNAL`), Restarts, …"""
        done = self.run("scontrol", "--oneliner", "show", "job", number)
        assert done.returncode == 0, done.stderr
        return dict(word.split("=", 1) for word in done.stdout.split() if "=" in word)

    def jobs(self) -> list[str]:
        """The numbers of those that wait, run or end."""
        return self.run("squeue", "--noheader", "--format=%A").stdout.split()

    def processes(self) -> list[str]:
        """The names of what runs on the hosts beside Slurm itself."""
        names = []
        for process in self._cluster.processes():
            with suppress(psutil.Error):  # it has ended
                names.append(process.name())
        return [name for name in names if name not in _DAEMONS]

    @staticmethod
    def seconds(job: dict[str, str]) -> int:
        """How long a job has run.

        Args:
            job: what Slurm knows of it; RunTime is [DAYS-]HOURS:MINUTES:SECONDS.
        """
        days, _, clock = job["RunTime"].rpartition("-")
        hours, minutes, seconds = map(int, clock.split(":"))
        return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds

    def wait_for(self, number: str, states: tuple[str, ...], timeout_s: float) -> dict[str, str]:
        """Waits until a job is in one of the states.

        Args:
            number: of the job.
            states: such as COMPLETED, or ENDED.
            timeout_s: after which the test fails.

        Returns:
            What Slurm knows of it.
        """
        self.until(lambda: self.job(number)["JobState"] in states, timeout_s, f"job {number} is not {states}")
        return self.job(number)
