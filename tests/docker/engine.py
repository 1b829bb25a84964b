"""Docker, or podman with a storage of its own where there is no Docker engine: both take the same words."""

import fcntl
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from readme_commands import shown

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
BASE = re.findall(r"debian:[\d.]+-slim", DOCKERFILE.read_text())[0]
IMAGE = "hvd_imagenet"
# The order in which threads add up is not the same for another number of them.
ONE_THREAD = "OMP_NUM_THREADS=1"
# As it stands in README.
BUILD = "docker build --file docker/Dockerfile --tag hvd_imagenet ."
PODMAN_TOOLS = {
    "podman": "podman",
    "podman-compose": "podman-compose",
    "runc": "runc",
    "iptables": "iptables",
    "debootstrap": "debootstrap",
}
_SUITES = {"12": "bookworm", "13": "trixie"}
# Images that are pulled from a registry have these sources already.
_SOURCES = """\
deb http://deb.debian.org/debian {suite} main
deb http://deb.debian.org/debian {suite}-updates main
deb http://deb.debian.org/debian-security {suite}-security main
"""
_STORAGE = """\
[storage]
driver = "{driver}"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""
# The limits are those that a container may have without more rights than this process.
_CONTAINERS = """\
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{folder}/libpod"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""


# It waits for the end of the process that holds the other end of its input, and ends what that has left running.
_AFTERWARDS = "cat > /dev/null; podman rm --all --force --time 0; podman network prune --force"


def cache() -> Path:
    """The folder in which `install-horovod` keeps its wheels, and these tests the base of the image."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hvd_imagenet"


def docker_engine() -> bool:
    """Whether a Docker engine answers."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True, check=False, timeout=60).returncode == 0


def missing() -> str:
    """Why no image can be built on this machine; empty where one can."""
    if docker_engine():
        return ""
    if os.geteuid() != 0:
        return "there is no Docker engine, and podman needs root here"
    packages = sorted(package for tool, package in PODMAN_TOOLS.items() if shutil.which(tool) is None)
    if packages:
        return f"there is no Docker engine, nor {', '.join(packages)}; as root, `make test-docker` installs them"
    return ""


class Engine:
    """Builds the image and runs containers of it, in a `with` statement; Docker keeps the image."""

    def __init__(self) -> None:
        self.words = ["docker"]
        self.compose = ["docker", "compose"]
        self.environment = dict(os.environ)

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def run(self, *words: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Runs one command of the engine and returns its result."""
        return self._run([*self.words, *words], timeout_s)

    def run_compose(self, file: Path, *words: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Runs one command of compose and returns its result."""
        return self._run([*self.compose, "--file", str(file), *words], timeout_s)

    def _run(self, words: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=timeout_s, cwd=ROOT,
        )  # fmt: skip

    def build(self, log: Path, timeout_s: float) -> int:
        """Builds the image, writes what the engine says into the log, and returns its exit code."""
        *arguments, context = shlex.split(shown(BUILD))[2:]
        if "TORCH_INDEX" in os.environ:
            arguments += ["--build-arg", f"TORCH_INDEX={os.environ['TORCH_INDEX']}"]
        code = 0
        with log.open("w") as file:
            for options in self.builds(log.parent):
                code = code or subprocess.run(
                    [*self.words, "build", *arguments, *options, context], env=self.environment, stdout=file,
                    stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, check=False, timeout=timeout_s, cwd=ROOT,
                ).returncode  # fmt: skip
        return code

    def builds(self, folder: Path) -> list[list[str]]:
        """The options of each `build` that it takes; the folder is for files that are needed until it ends."""
        return [[]]


class Podman(Engine):
    """Podman as root, with storage, networks and settings of these tests alone.

    Args:
        folder: for all of it; removed at the end, and at the beginning what an earlier run may have left.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.words = ["podman"]
        self.compose = ["podman-compose", "--project-name", IMAGE]
        self.folder = folder
        self.environment |= {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "TMPDIR": str(folder),
        }

    def __enter__(self) -> "Podman":
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._lock = self.folder.with_suffix(".lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.clear()
        self._configure()
        self._afterwards = subprocess.Popen(
            ["sh", "-c", _AFTERWARDS], env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        imported = self.run("import", "--quiet", str(base_archive(BASE)), f"docker.io/library/{BASE}", timeout_s=300)
        assert imported.returncode == 0, imported.stderr
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._afterwards.communicate()
        self.clear()
        self._lock.close()

    def _configure(self) -> None:
        self.folder.mkdir(exist_ok=True)
        driver = "overlay" if "overlay" in Path("/proc/filesystems").read_text() else "vfs"
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        settings = _CONTAINERS.format(folder=self.folder, files=min(files, 65536), processes=16384)
        (self.folder / "containers.conf").write_text(settings)
        (self.folder / "storage.conf").write_text(_STORAGE.format(driver=driver, folder=self.folder))
        # Where the `--mount=type=cache` of a build lie, by their place in it: they are this user's caches.
        for name in ("hvd_imagenet", "pip"):
            kept = self.folder / "buildah-cache" / "root" / ".cache" / name
            kept.parent.mkdir(parents=True, exist_ok=True)
            if not kept.is_symlink():
                (cache().parent / name).mkdir(parents=True, exist_ok=True)
                kept.symlink_to(cache().parent / name)

    def clear(self) -> None:
        """Ends all containers and removes everything."""
        if (self.folder / "storage").exists():
            self._configure()
            for words in (("rm", "--all", "--force", "--time", "0"), ("network", "prune", "--force")):
                self.run(*words, timeout_s=120)
        for point in reversed(self._mounts()):
            subprocess.run(["umount", point], check=False)
        # What is mounted there may be the user's own, as the caches are.
        assert not self._mounts(), f"in use: {', '.join(self._mounts())}"
        shutil.rmtree(self.folder, ignore_errors=True)

    def _mounts(self) -> list[str]:
        points = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
        return [point for point in points if point.startswith(f"{self.folder}/")]

    def builds(self, folder: Path) -> list[list[str]]:
        """The first stage with this user's caches and settings of pip; the rest without: mounts leave empty folders."""
        options = ["--isolation", "chroot", "--network", "host", "--pull=never", "--format", "docker"]
        settings, volumes = pip_settings()
        (folder / "pip.conf").write_text(settings)
        volumes["/etc/pip.conf"] = folder / "pip.conf"
        words = [word for inside, outside in volumes.items() for word in ("--volume", f"{outside}:{inside}")]
        return [[*options, "--target", "build", *words], options]


def pip_settings() -> tuple[str, dict[str, Path]]:
    """This machine's configuration of pip as a file, and where the files and folders that it names must be."""
    words = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    settings, volumes = {}, {}
    for line in lines:
        name, value = line.split("=", 1)
        name, values = name.split(".")[-1], value.strip("'\"").replace("\\n", "\n").split()
        if name == "cert":  # its own place is written by the system's packages
            volumes["/etc/pip.crt"], values = Path(values[0]), ["/etc/pip.crt"]
        settings[name] = " ".join(values)
        for each in values:
            # The pages of an index in a folder name files beside it.
            path = Path(each.removeprefix("file://")).parent if each.startswith("file://") else Path(each)
            if path.is_absolute() and path.exists():
                volumes.setdefault(str(path), path)
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()), volumes


def base_archive(name: str) -> Path:
    """The file system of Debian's image as an archive, made by debootstrap where an earlier run has not left it."""
    archive = cache() / f"{name.replace(':', '-')}.tar"
    if archive.exists():
        return archive
    suite = _SUITES[name.removeprefix("debian:").split(".")[0]]
    folder = archive.with_suffix(".new")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    words = ["debootstrap", "--variant=minbase", suite, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    (folder / "etc/apt/sources.list").write_text(_SOURCES.format(suite=suite))
    for unneeded in ("var/cache/apt", "var/lib/apt/lists", "usr/share/man", "usr/share/locale", "usr/share/info"):
        shutil.rmtree(folder / unneeded, ignore_errors=True)
    partial = archive.with_suffix(".partial")
    subprocess.run(
        ["tar", "--create", "--file", str(partial), "--directory", str(folder), "."], check=True, timeout=300
    )
    shutil.rmtree(folder)
    partial.rename(archive)
    return archive
