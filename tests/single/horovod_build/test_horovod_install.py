"""Which way `install-horovod` goes: installed already, from the cache, built; nothing is really built."""

from pathlib import Path
from typing import Any

import pytest

from hvd_imagenet import cli
from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build import install, wheel_cache
from hvd_imagenet.horovod_build.inputs import BuildInputs
from hvd_imagenet.horovod_build.install import install_horovod
from hvd_imagenet.horovod_build.installed import BuildInfo
from hvd_imagenet.horovod_build.toolchain import Toolchain


@pytest.fixture
def events(
    build_tools: Toolchain, build_inputs: BuildInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    happened: list[str] = []

    def build(root: Path, *_: Any) -> Path:
        happened.append("built")
        wheel = tmp_path / "horovod-0.28.1-py3-none-any.whl"
        wheel.write_bytes(b"built")
        return wheel

    monkeypatch.setattr(install, "find_toolchain", lambda: build_tools)
    monkeypatch.setattr(install, "gather_inputs", lambda *_: build_inputs)
    monkeypatch.setattr(install, "cache_root", lambda: tmp_path / "cache")
    monkeypatch.setattr(install, "read_build_info", lambda: None)
    monkeypatch.setattr(install, "_build", build)
    monkeypatch.setattr(install, "_pip_install", lambda wheel: happened.append(f"installed {wheel.read_text()}"))
    monkeypatch.setattr(install, "try_import", lambda name: happened.append(f"tried {name}"))
    return happened


def test_first_built_then_from_the_cache(events: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    install_horovod()
    assert events == ["built", "installed built", "tried torch"]
    events.clear()
    install_horovod()
    assert events == ["installed built"]
    assert "from the cache" in capsys.readouterr().out
    events.clear()
    install_horovod(force=True)
    assert events[0] == "built"


def test_a_damaged_wheel_is_built_again(
    build_inputs: BuildInputs, events: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install_horovod()
    cached = wheel_cache.load(tmp_path / "cache", build_inputs.key())
    assert cached is not None
    cached.write_bytes(b"garbage")
    events.clear()
    install_horovod()
    assert events[0] == "built"
    assert "the cached wheel is damaged and will be built again" in capsys.readouterr().out
    assert cached.read_bytes() == b"built"


def test_a_build_that_does_not_start_is_not_cached(
    build_inputs: BuildInputs, events: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise UserError("does not start")

    monkeypatch.setattr(install, "try_import", fail)
    with pytest.raises(UserError, match="does not start"):
        install_horovod()
    assert wheel_cache.load(tmp_path / "cache", build_inputs.key()) is None


def test_the_same_build_is_left_alone_unless_forced(
    build_inputs: BuildInputs, events: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "read_build_info", lambda: BuildInfo(build_inputs.key(), {"torch": "2.13.0"}))
    monkeypatch.setattr(install, "has_extension", lambda name: True)
    install_horovod()
    assert events == []
    assert f"is installed already (build {build_inputs.key()}); --force rebuilds" in capsys.readouterr().out
    monkeypatch.setattr(install, "has_extension", lambda name: False)
    install_horovod()
    assert events[0] == "built"


def test_a_wheel_that_pip_refuses(tmp_path: Path) -> None:
    wheel = tmp_path / "horovod-0.28.1-py3-none-any.whl"
    wheel.write_bytes(b"no zip file")
    with pytest.raises(
        UserError, match=r"^pip could not install horovod-0\.28\.1-py3-none-any\.whl: ERROR: .* writable\?$"
    ):
        install._pip_install(wheel)


def test_a_framework_that_does_not_start() -> None:
    with pytest.raises(
        UserError, match=r"horovod\.nosuch does not start: ModuleNotFoundError: No module named 'nosuch'"
    ):
        install.try_import("nosuch")


@pytest.mark.parametrize("jobs", ["0", "-1"])
def test_jobs_must_be_positive(jobs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["install-horovod", f"--jobs={jobs}"]) == 2
    assert capsys.readouterr().err == f"error: --jobs {jobs}: must be at least 1\n"
