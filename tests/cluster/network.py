"""Three hosts on one machine: each with its own network, name, process table, /etc/hosts, /dev/shm and sshd.

They share the file system, as the hosts of a cluster do. All of it lives in anonymous namespaces that processes of ours
hold: when those end, however the tests end, the kernel removes the networks and every process within. The machine's own
network, sshd and ~/.ssh have no part in it.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import psutil

NAMES = ("node1", "node2", "node3")
INTERFACE = "eth0"
TOOLS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
}
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
_CHECKOUT = Path(__file__).parents[2]
_PR_SET_PDEATHSIG = 1
_READY_WITHIN_S = 10.0

# What the first process of a host does before it becomes sshd; $1 is the host's name, $2 the fixture's folder.
_BEGIN = """
set -e
hostname "$1"
mount --bind "$2/ssh" /etc/ssh
mount --bind "$2/$1.hosts" /etc/hosts
if [ -d ~/.ssh ]; then mount --bind "$2/ssh" ~/.ssh; fi
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/sshd
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
read -r its_network_is_up
exec "$3" -D -e 2> "$2/$1.sshd.log"
"""
_SSHD = """\
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/user_key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
MaxStartups 100
"""
_SSH = """\
Host *
    IdentityFile /etc/ssh/user_key
    IdentitiesOnly yes
    UserKnownHostsFile none
    UpdateHostKeys no
    StrictHostKeyChecking yes
"""


class Host(NamedTuple):
    """One of the hosts.

    Args:
        name: its own, which the others know it by.
        address: on the network between the hosts.
        pid: of its first process, sshd, as the machine counts.
    """

    name: str
    address: str
    pid: int

    @property
    def link(self) -> str:
        """The switch's end of its cable."""
        return f"to-{self.name}"

    def command(self, words: Sequence[str]) -> list[str]:
        """An argument list that runs a command in the checkout on this host, as if someone had logged in there."""
        inside = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--pid", "--"]
        return [*inside, "env", f"--chdir={_CHECKOUT}", *words]

    def processes(self) -> list[psutil.Process]:
        """All that run here, but for what listens for ssh."""
        own = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != self.pid and os.readlink(f"/proc/{process.pid}/ns/pid") == own:
                    found.append(process)
            except OSError:
                continue  # it has ended
        return found


def why_not() -> str:
    """Why this machine cannot have such hosts, whatever is installed; empty where it can."""
    if os.geteuid() != 0:
        return "hosts in network namespaces need root"
    words = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "true"]
    tried = subprocess.run(words, capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"no namespaces here ({tried.stderr.strip()}); a container needs --privileged for them"
    return ""


def missing_packages() -> list[str]:
    """Debian's packages that are to be installed first."""
    return sorted({package for tool, package in TOOLS.items() if shutil.which(tool, path=_PATH) is None})


class Cluster:
    """Three hosts at a switch; use it in a `with` statement.

    Args:
        folder: new and empty, for keys, configurations and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts: list[Host] = []
        self._holders: list[subprocess.Popen[str]] = []
        self._delay_line: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Cluster":
        try:
            self._write_configurations()
            self._switch = self._hold(["unshare", "--net", "sleep", "infinity"])
            self._wait_for(lambda: _namespace(self._switch.pid, "net") != _namespace(os.getpid(), "net"), "the switch")
            self.on_switch("ip", "link", "add", "switch", "type", "bridge")
            self.on_switch("ip", "link", "set", "switch", "up")
            for number, name in enumerate(NAMES, start=1):
                self.hosts.append(self._begin(name, f"10.77.0.{number}"))
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Ends every process of every host, and so the hosts."""
        for holder in self._holders:
            holder.kill()  # its first child, the host's process 1, is killed with it, and with that one all others
            holder.wait()
        self._wait_for(lambda: not any(psutil.pid_exists(host.pid) for host in self.hosts), "the end of the hosts")

    def processes(self) -> list[psutil.Process]:
        """What runs on the hosts beside their sshd."""
        return [process for host in self.hosts for process in host.processes()]

    def mend(self) -> None:
        """Takes back what was done to links and names."""
        self.unshape()
        self.name_by_loopback(False)
        for host in self.hosts:
            self.plug(host, plugged=True)

    def hosts_file(self, slots: int = 2) -> Path:
        """A file with a host a line, as mpirun, horovodrun and `launch --hosts` read it."""
        path = self.folder / f"hosts-of-{slots}"
        path.write_text("".join(f"{name} slots={slots}\n" for name in NAMES))
        return path

    def hosts_option(self, slots: int = 2) -> str:
        """The same for -H."""
        return ",".join(f"{name}:{slots}" for name in NAMES)

    def name_by_loopback(self, loopback: bool) -> None:
        """Has each host know its own name by 127.0.1.1, as Debian's installer writes it, or by its address again."""
        for own in NAMES:
            lines = ["127.0.0.1 localhost"]
            for number, name in enumerate(NAMES, start=1):
                lines.append(f"{'127.0.1.1' if loopback and name == own else f'10.77.0.{number}'} {name}")
            (self.folder / f"{own}.hosts").write_text("\n".join(lines) + "\n")  # the same inode: it is mounted

    def plug(self, host: Host, *, plugged: bool) -> None:
        """Pulls the cable of a host out of the switch, or puts it back."""
        self.on_switch("ip", "link", "set", host.link, "up" if plugged else "down")

    def shape(self, megabits_per_s: float, delay_s: float) -> None:
        """Makes every link as slow as this, each way; the way between two hosts takes the delay once."""
        for host in self.hosts:
            rate = ["tbf", "rate", f"{megabits_per_s:g}mbit", "burst", "64kb", "latency", "200ms"]
            _run(*host.command(["tc", "qdisc", "replace", "dev", INTERFACE, "root", *rate]))
            self.on_switch("ip", "link", "set", host.link, "nomaster")
        links = [host.link for host in self.hosts]
        words = [sys.executable, str(Path(__file__).with_name("delay_line.py")), str(delay_s), *links]
        self._delay_line = self._hold(["nsenter", f"--target={self._switch.pid}", "--net", "--", *words])
        assert self._delay_line.stdout is not None
        assert self._delay_line.stdout.readline() == "ready\n"

    def unshape(self) -> None:
        """Makes the links as fast as they were."""
        if self._delay_line is not None:
            self._delay_line.kill()
            self._delay_line.wait()
            self._delay_line = None
        for host in self.hosts:
            subprocess.run(
                host.command(["tc", "qdisc", "del", "dev", INTERFACE, "root"]), capture_output=True, check=False
            )
            self.on_switch("ip", "link", "set", host.link, "master", "switch")

    def on_switch(self, *words: str) -> None:
        """Runs a command in the switch's network, and raises unless it succeeds."""
        _run("nsenter", f"--target={self._switch.pid}", "--net", "--", *words)

    def _begin(self, name: str, address: str) -> Host:
        """Starts a host and plugs it in."""
        shell = ["sh", "-c", _BEGIN, "sh", name, str(self.folder), str(shutil.which("sshd", path=_PATH))]
        own = ["--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"]
        holder = self._hold(["unshare", *own, "--", *shell])
        children = psutil.Process(holder.pid).children
        self._wait_for(lambda: len(children()) == 1, name)
        host = Host(name, address, children()[0].pid)
        ends = ["type", "veth", "peer", "name", INTERFACE, "netns", str(host.pid)]
        self.on_switch("ip", "link", "add", host.link, *ends)
        self.on_switch("ip", "link", "set", host.link, "master", "switch", "up")
        inside = ["nsenter", f"--target={host.pid}", "--net", "--"]
        _run(*inside, "ip", "link", "set", "lo", "up")
        _run(*inside, "ip", "address", "add", f"{address}/24", "dev", INTERFACE)
        _run(*inside, "ip", "link", "set", INTERFACE, "up")
        assert holder.stdin is not None
        holder.stdin.write("up\n")
        holder.stdin.close()
        log = self.folder / f"{name}.sshd.log"
        self._wait_for(lambda: log.exists() and "listening on 0.0.0.0" in log.read_text(), f"sshd of {name}")
        return host

    def _write_configurations(self) -> None:
        """Keys and configurations of ssh and sshd, for all hosts alike, and the names of the hosts."""
        folder = self.folder / "ssh"
        folder.mkdir()
        for key in ("host_key", "user_key"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", str(folder / key))
        (folder / "sshd_config").write_text(_SSHD)
        (folder / "ssh_config").write_text(_SSH)
        (folder / "ssh_known_hosts").write_text(f"{','.join(NAMES)} {(folder / 'host_key.pub').read_text()}")
        self.name_by_loopback(False)

    def _hold(self, words: list[str]) -> "subprocess.Popen[str]":
        """Starts a process that keeps a part of the network alive, and dies with this one."""
        holder = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "PATH": _PATH}, preexec_fn=_die_with_parent,
        )  # fmt: skip
        self._holders.append(holder)
        return holder

    def _wait_for(self, is_so: Callable[[], bool], what: str) -> None:
        """Waits until something is so; what the holders and their sshd have said is in the message otherwise."""
        give_up_at_s = time.monotonic() + _READY_WITHIN_S
        while not is_so():
            if time.monotonic() > give_up_at_s:
                logs = "\n".join(log.read_text() for log in self.folder.glob("*.sshd.log"))
                raise TimeoutError(f"{what}: not there after {_READY_WITHIN_S:g} s\n{logs}")
            time.sleep(0.02)


def _die_with_parent() -> None:
    """Has the kernel end this process with the one that started it, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def _run(*words: str) -> None:
    """Runs a command, and raises with what it says unless it succeeds."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PATH": _PATH})
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
