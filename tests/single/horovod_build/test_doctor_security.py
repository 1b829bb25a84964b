"""`doctor` on a Horovod with and without the patches that close its doors."""

from typing import Any

import pytest

from hvd_imagenet.horovod_build.doctor import checks
from hvd_imagenet.horovod_build.doctor_security import check_security
from hvd_imagenet.horovod_build.installed import BuildInfo
from hvd_imagenet.horovod_build.patches import PATCHES, SECURITY_PATCHES


def build(*patches: str) -> BuildInfo:
    return BuildInfo(key="k", frameworks={"torch": "2.13.0"}, patches=patches)


@pytest.mark.parametrize("info", [None, build(), build("cxx17")], ids=["not ours", "no patch", "other patches"])
def test_a_horovod_without_the_patches(site: Any, info: BuildInfo | None) -> None:
    site.add_horovod(info)
    (finding,) = check_security()
    assert finding.status == "warning"
    assert "CVE-2024-10190" in finding.message
    assert "CVE-2026-31234" in finding.message
    assert finding.remedy == "hvd-imagenet install-horovod; until then start jobs with hvd-imagenet launch or mpirun"


def test_one_patch_is_missing(site: Any) -> None:
    site.add_horovod(build(*[patch.name for patch in SECURITY_PATCHES[1:]]))
    (finding,) = check_security()
    assert finding.message == "Horovod 0.28.1+hvdimagenet lacks the patches authenticated-key-value-store"
    assert finding.remedy == "hvd-imagenet install-horovod"


def test_our_build_is_ok_and_none_at_all_is_told_elsewhere(site: Any) -> None:
    assert list(check_security()) == []
    site.add_horovod(build(*[patch.name for patch in PATCHES]))
    (finding,) = check_security()
    assert finding.status == "ok"


def test_doctor_looks() -> None:
    assert check_security in checks([])
