import subprocess
import sys
from typing import Any

import pytest

from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build.installed import BUILD_INFO_NAME, BuildInfo, check_installed, installed_frameworks

RUN = "run: hvd-imagenet install-horovod"
BOTH = BuildInfo(key="k", frameworks={"torch": "2.13.0+cpu", "tensorflow": "2.21.0"}, mpi="Open MPI 5.0.11")


@pytest.mark.parametrize("framework", ["torch", "tensorflow", "keras"])
def test_a_build_for_what_is_installed_is_accepted(site: Any, framework: str) -> None:
    site.add("torch", "2.13.0+cpu")
    site.add("tensorflow-cpu", "2.21.0")
    site.add_horovod(BOTH)
    check_installed(framework)


@pytest.mark.parametrize(
    ("torch", "info", "framework", "message"),
    [
        ("2.13.0", None, "torch", f"Horovod is not installed (for torch 2.13.0); {RUN}"),
        (None, BOTH, "torch", f"torch is not installed in this environment; install it, then {RUN}"),
        (None, BOTH, "keras", f"tensorflow is not installed in this environment; install it, then {RUN}"),
        (
            "2.14.0",
            BOTH,
            "torch",
            f"the installed Horovod was built for torch 2.13.0+cpu, but torch 2.14.0 is installed; {RUN}",
        ),
        (
            "2.13.0+cpu",
            BuildInfo(key="k", frameworks={"tensorflow": "2.21.0"}),
            "torch",
            f"the installed Horovod was built for tensorflow 2.21.0, not for torch 2.13.0+cpu; {RUN}",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    site: Any, torch: str | None, info: BuildInfo | None, framework: str, message: str
) -> None:
    if torch is not None:
        site.add("torch", torch)
    if info is not None:
        site.add_horovod(info)
    with pytest.raises(UserError) as raised:
        check_installed(framework)
    assert str(raised.value) == message


@pytest.mark.parametrize("record", [None, "", "[]", "{}", '{"key": 1}'])
def test_a_horovod_of_unknown_origin_is_refused(site: Any, record: str | None) -> None:
    site.add("torch", "2.13.0")
    site.add_horovod(None)
    if record is not None:
        (site.folder / "horovod" / BUILD_INFO_NAME).write_text(record)
    with pytest.raises(UserError, match=r"Horovod 0\.28\.1\+hvdimagenet has no record .* torch 2\.13\.0 .*; run: hvd"):
        check_installed("torch")


def test_a_missing_extension_is_noticed(site: Any) -> None:
    site.add("torch", "2.13.0+cpu")
    site.add_horovod(BOTH)
    next((site.folder / "horovod" / "torch").iterdir()).unlink()
    with pytest.raises(UserError, match=r"not for torch 2\.13\.0\+cpu"):
        check_installed("torch")


def test_the_record_survives_being_written_and_read() -> None:
    info = BuildInfo(key="k", frameworks={"torch": "2"}, mpi="m", patches=("a", "b"), inputs={"cmake": "3.31"})
    assert BuildInfo.from_json(info.as_json()) == info


def test_frameworks_are_found_under_any_of_their_names(site: Any) -> None:
    assert installed_frameworks() == {}
    site.add("tf-nightly", "2.22.0")
    assert installed_frameworks() == {"tensorflow": "2.22.0"}


def test_no_framework_is_imported() -> None:
    program = (
        "import sys; from hvd_imagenet.horovod_build import check_installed; check_installed('torch');"
        "print([name for name in ('torch', 'tensorflow', 'keras', 'horovod') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
