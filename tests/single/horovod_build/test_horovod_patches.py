"""The patches against the source distribution they were written for."""

import re
from pathlib import Path

import pytest

from hvd_imagenet.horovod_build.patch import apply_patches
from hvd_imagenet.horovod_build.patches import PATCHES
from hvd_imagenet.horovod_build.source import fetch_sdist, unpack

NOTICE = Path(__file__).parents[3] / "NOTICE"


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = unpack(fetch_sdist(), tmp_path_factory.mktemp("sources"))
    apply_patches(sources, PATCHES)
    return sources


def test_every_anchor_is_found_and_every_python_file_still_compiles(patched: Path) -> None:
    files = {edit.file for patch in PATCHES for edit in patch.edits}
    for file in sorted(files):
        text = (patched / file).read_text()
        if file.endswith(".py"):
            compile(text, file, "exec")


def test_patches_are_named_once_and_explained() -> None:
    names = [patch.name for patch in PATCHES]
    assert len(set(names)) == len(names)
    for patch in PATCHES:
        assert re.fullmatch(r"[a-z0-9-]+", patch.name)
        assert patch.reason.endswith(".")
        assert re.fullmatch(r"horovod/horovod#\d+|not reported", patch.upstream)
        assert patch.edits


def test_no_option_of_mpirun_is_left_with_one_dash(patched: Path) -> None:
    text = (patched / "horovod/runner/mpi_run.py").read_text()
    assert re.findall(r"(?<!-)-(?:mca|bind-to|map-by|rank-by)\b", text) == []


def test_the_notice_lists_the_patches() -> None:
    text = NOTICE.read_text()
    assert "Apache License, Version 2.0" in text
    assert [patch.name for patch in PATCHES if f"- {patch.name}:" not in text] == []
