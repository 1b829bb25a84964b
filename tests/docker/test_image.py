"""The image for CPUs: what is in it and what is not, the main job in one container, in several, and under Compose."""

import csv
import io
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from engine import DOCKERFILE, IMAGE, ONE_THREAD, ROOT, Engine
from mpi_operator import Operator
from readme_commands import shown

from hvd_imagenet import __version__
from hvd_imagenet.commands import COMMANDS

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]

MAX_IMAGE_BYTES = 2.6e9
MAX_ERROR_PERCENT = 5.0
# As they stand in README.
DIGITS = "docker run --rm --shm-size 1g hvd_imagenet digits"
REPRODUCE = "docker run --rm --volume study:/job hvd_imagenet reproduce"
TRAIN = (
    "docker run --rm --shm-size 1g --volume /data/imagenet:/data/imagenet:ro --volume runs:/job hvd_imagenet "
    "launch -- train --data /data/imagenet"
)
COMPOSE = (
    "docker compose --file launch/compose.yaml run --rm head\ndocker compose --file launch/compose.yaml down --volumes"
)
_COMPILERS = "cc gcc g++ c++ clang clang++ cmake ninja make ld nvcc mpicc mpicxx"


def _lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def _volume(engine: Engine, name: str) -> Iterator[str]:
    made = engine.run("volume", "create", name, timeout_s=60)
    assert made.returncode == 0, made.stderr
    yield name
    engine.run("volume", "rm", "--force", name, timeout_s=60)


@pytest.fixture
def volume(engine: Engine) -> Iterator[str]:
    """A volume for data and runs."""
    yield from _volume(engine, "hvd_imagenet_test")


@pytest.fixture(scope="module")
def main_volume(engine: Engine) -> Iterator[str]:
    """The same for the main job."""
    yield from _volume(engine, "hvd_imagenet_main")


def _in_container(engine: Engine, image: str, script: str, *options: str) -> str:
    done = engine.run("run", "--rm", *options, image, "sh", "-c", script, timeout_s=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _containers(engine: Engine) -> str:
    """Those of the image, running or not."""
    return engine.run("ps", "--all", "--quiet", "--filter", f"ancestor={IMAGE}", timeout_s=60).stdout


def test_dockerfile_is_clean_for_hadolint() -> None:
    done = subprocess.run(["hadolint", DOCKERFILE], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("", 0)


def test_scripts_are_clean_for_shellcheck() -> None:
    scripts = sorted((ROOT / "docker").glob("*.sh"))
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("", 0)


def test_size_user_and_labels(engine: Engine, image: str) -> None:
    (about,) = json.loads(engine.run("image", "inspect", image, timeout_s=60).stdout)
    print(f"{image}: {about['Size'] / 1e9:.2f} GB")
    assert about["Size"] < MAX_IMAGE_BYTES
    assert about["Config"]["User"] == "1001"
    labels = about["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_what_is_in_it(engine: Engine, image: str) -> None:
    assert _in_container(engine, image, "id --user --name; pwd").split() == ["trainer", "/job"]
    assert _in_container(engine, image, f"for name in {_COMPILERS}; do command -v $name; done; true") == ""
    assert _in_container(engine, image, "ls /etc/ssh | grep ssh_host; true") == ""
    licences = _in_container(
        engine, image, "cat /usr/share/doc/hvd_imagenet/LICENSE /usr/share/doc/hvd_imagenet/NOTICE"
    )
    assert licences == "".join((ROOT / name).read_text() for name in ("LICENSE", "NOTICE"))
    # No program has the name of a command, which would be run in its place.
    assert _in_container(engine, image, f"which {' '.join(COMMANDS)} digits reproduce ssh-worker ssh-keys; true") == ""


def test_words_of_run(engine: Engine, image: str) -> None:
    assert engine.run("run", "--rm", image, timeout_s=60).stdout.startswith("usage: hvd-imagenet")
    version = engine.run("run", "--rm", image, "--version", timeout_s=60)
    assert version.stdout == f"hvd-imagenet {__version__}\n"
    mistake = engine.run("run", "--rm", image, "trian", timeout_s=60)
    assert mistake.returncode == 2
    assert re.fullmatch(r"error: .*trian.*\n", mistake.stderr)


def test_doctor(engine: Engine, image: str) -> None:
    done = engine.run("run", "--rm", image, "doctor", "--json", timeout_s=300)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["works"]) == (0, True), done.stdout
    of = {finding["name"]: finding["status"] for finding in answer["findings"]}
    assert {of["horovod.torch"], of["horovod.tensorflow"], of["mpirun"], of["images"]} == {"ok"}


@pytest.fixture(scope="module")
def main_job(engine: Engine, image: str, main_volume: str) -> dict[str, list[dict[str, str]]]:
    """The tables of the main job on 2 processes of one container, by README's line; the run stays in a volume."""
    docker, run, *words = shlex.split(shown(DIGITS))
    assert (docker, run, words[-2]) == ("docker", "run", image)
    job = ("--volume", f"{main_volume}:/job")
    done = engine.run("run", *job, "--env", ONE_THREAD, *words, "--", "--out", "run", timeout_s=900)
    assert done.returncode == 0, done.stdout + done.stderr
    script = "cat run/iterations.csv && echo ---- && cat run/metrics.csv"
    iterations, epochs = _in_container(engine, image, script, *job).split("----\n")
    return {"iterations": _lines(iterations), "epochs": _lines(epochs)}


def test_main_job_on_2_processes(main_job: dict[str, list[dict[str, str]]]) -> None:
    assert float(main_job["epochs"][-1]["val_error"]) < MAX_ERROR_PERCENT


@pytest.mark.usefixtures("main_job")
def test_train(engine: Engine, image: str, main_volume: str) -> None:
    """`docker run IMAGE train …` is one process, which takes the images of the volume."""
    words = ["train", "--recipe", "digits", "--data", "data/digits", "--out", "alone", "--max-iterations", "3"]
    done = engine.run("run", "--rm", "--volume", f"{main_volume}:/job", image, *words, timeout_s=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on 1 processes (cpu)" in done.stdout


def test_images_of_the_host_and_a_volume_for_runs(engine: Engine, image: str, volume: str, tmp_path: Path) -> None:
    data = tmp_path / "digits"
    made = [sys.executable, "-m", "hvd_imagenet", "make-dataset", str(data), "--source", "digits"]
    subprocess.run(made, check=True, timeout=60, stdout=subprocess.DEVNULL)
    places = {"--volume /data/imagenet:": f"--volume {data}:", "runs:": f"{volume}:"}
    docker, run, *words = shlex.split(shown(TRAIN, places))
    assert (docker, run) == ("docker", "run")
    done = engine.run("run", *words, "--recipe", "digits", "--out", "run", "--max-iterations", "3", timeout_s=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(cpu)" in done.stdout
    rows = _in_container(engine, image, "cat run/iterations.csv", "--volume", f"{volume}:/job")
    assert len(_lines(rows)) == 3


def test_image_for_gpus_without_one(engine: Engine, image: str) -> None:
    """The entry point is the same in both images, but for this variable."""
    began_s = time.monotonic()
    done = engine.run("run", "--rm", "--env", "HVD_IMAGENET_CUDA=13.0.2", image, "digits", timeout_s=60)
    assert time.monotonic() - began_s < 30
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: this image is for NVIDIA GPUs")
    assert "docker run --gpus all" in line
    assert _containers(engine) == ""


def test_reproduce(engine: Engine, image: str, volume: str) -> None:
    """README's line, with two runs of seconds in the place of Figure 1 and Table 1."""
    docker, run, *words = shlex.split(shown(REPRODUCE, {"study:": f"{volume}:"}))
    assert (docker, run) == ("docker", "run")
    done = engine.run("run", *words, "--quick", timeout_s=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 runs done" in done.stdout
    found = _in_container(engine, image, "cat minibatch_study.json", "--volume", f"{volume}:/job")
    assert [point["label"] for point in json.loads(found)["points"]] == ["kn 64", "kn 128"]


def test_stop_leaves_a_checkpoint(engine: Engine, image: str, volume: str) -> None:
    job = ("--name", "stopped", "--volume", f"{volume}:/job")
    started = engine.run("run", "--detach", *job, image, "digits", "--", "--out", "run", timeout_s=60)
    assert started.returncode == 0, started.stderr
    give_up_at_s = time.monotonic() + 300
    look = ("exec", "stopped", "cat", "run/iterations.csv")
    while len(engine.run(*look, timeout_s=60).stdout.splitlines()) < 5 and time.monotonic() < give_up_at_s:
        time.sleep(1)
    engine.run("stop", "--time", "60", "stopped", timeout_s=120)
    code = engine.run("wait", "stopped", timeout_s=60).stdout.strip()
    said = engine.run("logs", "stopped", timeout_s=60)
    engine.run("rm", "stopped", timeout_s=60)
    assert code == "143", said.stdout + said.stderr
    kept = _in_container(engine, image, "ls run/checkpoints", "--volume", f"{volume}:/job")
    assert len([name for name in kept.split() if name != "best"]) == 1


def test_mpijob_on_2_workers(
    engine: Engine, image: str, volume: str, main_job: dict[str, list[dict[str, str]]], tmp_path: Path
) -> None:
    operator = Operator(engine, volume, tmp_path)
    operator.args["Launcher"] += ["--max-iterations", "40"]
    try:
        done = operator.run()
        told = engine.run("logs", operator.workers[0], timeout_s=60)
    finally:
        operator.remove()
    assert done.returncode == 0, done.stdout + done.stderr + told.stdout + told.stderr
    table = _lines(_in_container(engine, image, "cat digits/iterations.csv", "--volume", f"{volume}:/job"))
    assert len(table) == 40
    losses = [[float(row["loss"]) for row in rows[:20]] for rows in (table, main_job["iterations"])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    summary = json.loads(_in_container(engine, image, "cat digits/summary.json", "--volume", f"{volume}:/job"))
    assert summary["processes"] == 2


def test_compose_head_and_3_workers(
    engine: Engine, image: str, main_job: dict[str, list[dict[str, str]]], tmp_path: Path
) -> None:
    """README's lines, with launch/compose.yaml as it is but for fewer iterations."""
    compose = yaml.safe_load((ROOT / "launch/compose.yaml").read_text())
    compose["services"]["head"]["command"] += ["--", "--max-iterations", "20"]
    file = tmp_path / "compose.yaml"
    file.write_text(yaml.safe_dump(compose))
    start, end = (shlex.split(line)[4:] for line in shown(COMPOSE).splitlines())
    volume = f"{compose['name']}_job"
    try:
        done = engine.run_compose(file, *start, timeout_s=900)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "validation error " in done.stdout, done.stdout + done.stderr
        job = ("--volume", f"{volume}:/job")
        summary = json.loads(_in_container(engine, image, "cat runs/*/summary.json", *job))
        table = _lines(_in_container(engine, image, "cat runs/*/iterations.csv", *job))
    finally:
        engine.run_compose(file, *end, timeout_s=120)
    assert _containers(engine) == ""
    assert volume not in engine.run("volume", "ls", "--quiet", timeout_s=60).stdout.split()
    assert (summary["processes"], len(table)) == (3, 20)
    losses = [[float(row["loss"]) for row in rows[:10]] for rows in (table, main_job["iterations"])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
