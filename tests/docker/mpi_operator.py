"""Stands for Kubeflow's MPI Operator, with containers in the place of pods."""

import subprocess
from pathlib import Path

import yaml
from engine import IMAGE, ONE_THREAD, ROOT, Engine


class Operator:
    """What the MPI Operator makes of the job for CPUs: pods with their names, keys, hostfile and variables."""

    def __init__(self, engine: Engine, volume: str, folder: Path) -> None:
        (self.job,) = (
            job
            for job in yaml.safe_load_all((ROOT / "launch/mpijob.yaml").read_text())
            if job["metadata"]["labels"]["device"] == "cpu"
        )
        self.engine, self.volume, self.folder = engine, volume, folder
        self.name = self.job["metadata"]["name"]
        self.slots = self.job["spec"]["slotsPerWorker"]
        replicas = self.job["spec"]["mpiReplicaSpecs"]
        self.args = {kind: its["template"]["spec"]["containers"][0]["args"] for kind, its in replicas.items()}
        self.workers = [f"{self.name}-worker-{number}" for number in range(replicas["Worker"]["replicas"])]
        for part in ("secret", "mpi"):
            (folder / part).mkdir()
            (folder / part).chmod(0o755)
        key = folder / "secret" / "id_rsa"
        words = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "521", "-m", "PEM", "-N", "", "-f", str(key)]
        subprocess.run(words, check=True, timeout=60)
        # A mounted secret belongs to root, and all may read it; ssh is strict only with files of its own user.
        key.chmod(0o644)
        (key.parent / "authorized_keys").write_text((key.parent / "id_rsa.pub").read_text())
        hosts = "".join(f"{self.host(worker)} slots={self.slots}\n" for worker in self.workers)
        (folder / "mpi" / "hostfile").write_text(hosts)

    def host(self, pod: str) -> str:
        """The name under which the cluster's DNS knows a pod."""
        return f"{pod}.{self.name}.default.svc"

    def pod(self, name: str, kind: str, *more: str, variables: dict[str, str]) -> list[str]:
        """The words that start a pod."""
        words = ["run", "--name", name, "--hostname", name, "--network", self.name, "--network-alias", self.host(name)]
        words += ["--volume", f"{self.volume}:/job", "--volume", f"{self.folder}/secret:/home/trainer/.ssh:ro"]
        words += ["--volume", f"{self.folder}/mpi:/etc/mpi:ro", "--env", f"K_MPI_JOB_ROLE={kind.lower()}"]
        words += [word for pair in variables.items() for word in ("--env", "=".join(pair))]
        return [*words, *more, IMAGE, *self.args[kind]]

    def run(self) -> "subprocess.CompletedProcess[str]":
        """Starts the workers, then the launcher; its result."""
        assert self.engine.run("network", "create", self.name, timeout_s=60).returncode == 0
        for worker in self.workers:
            started = self.engine.run(*self.pod(worker, "Worker", "--detach", variables={}), timeout_s=60)
            assert started.returncode == 0, started.stderr
        variables = {
            "OMPI_MCA_orte_keep_fqdn_hostnames": "true",
            "OMPI_MCA_orte_default_hostfile": "/etc/mpi/hostfile",
            "OMPI_MCA_plm_rsh_args": "-o ConnectionAttempts=10",
            "OMPI_MCA_orte_set_default_slots": str(self.slots),
            "NVIDIA_VISIBLE_DEVICES": "",
            "NVIDIA_DRIVER_CAPABILITIES": "",
            **dict([ONE_THREAD.split("=")]),
        }
        return self.engine.run(*self.pod(f"{self.name}-launcher", "Launcher", variables=variables), timeout_s=900)

    def remove(self) -> None:
        """Ends the pods."""
        self.engine.run("rm", "--force", f"{self.name}-launcher", *self.workers, timeout_s=120)
        self.engine.run("network", "rm", self.name, timeout_s=60)
