"""The package as a wheel, away from the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ranks import ROOT, run

NEEDED = ("hvd_imagenet", "csrc", "setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = run(command, timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = folder.glob("*.whl")
    return built


def test_wheel_holds_every_module_and_the_licences(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "hvd_imagenet").rglob("*.py")}
    assert modules <= set(names)
    assert "hvd_imagenet/py.typed" in names
    assert [name for name in names if name.startswith("hvd_imagenet/data/_jpeg_planes.")]
    assert {Path(name).name for name in names if "dist-info" in name} >= {"LICENSE", "NOTICE", "METADATA"}


def test_wheel_trains_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)], check=True
    )
    own = [sys.executable, "-m", "hvd_imagenet"]
    path = {"PYTHONPATH": os.fspath(site)}
    place = [sys.executable, "-c", "import hvd_imagenet; print(hvd_imagenet.__file__)"]
    where = run(place, timeout_s=30, cwd=tmp_path, **path)
    assert where.stdout.startswith(str(site)), where
    made = run([*own, "make-dataset", "digits", "--source", "digits"], timeout_s=60, cwd=tmp_path, **path)
    assert made.returncode == 0, made.stderr
    words = ["launch", "-np", "2", "--", "train", "--recipe", "digits", "--data", "digits", "--max-iterations", "3"]
    trained = run([*own, *words], timeout_s=120, cwd=tmp_path, **path)
    assert trained.returncode == 0, trained.stderr
    assert "after 3 iterations" in trained.stdout
    assert len(list(tmp_path.glob("runs/digits-*/summary.json"))) == 1
