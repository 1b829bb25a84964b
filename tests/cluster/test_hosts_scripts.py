"""The files of launch/ that are shell scripts."""

import os
import shutil
import subprocess

import pytest
from ranks import ROOT

SCRIPTS = sorted(path for path in (ROOT / "launch").iterdir() if path.suffix in (".sh", ".sbatch"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: object) -> None:
    if os.geteuid() != 0 and shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed, and `make test-cluster` installs it as root only")
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
