"""`doctor` as a command: its exit code, its JSON, and this environment."""

import json
from typing import Any

import pytest

from hvd_imagenet import cli
from hvd_imagenet.commands import doctor as command
from hvd_imagenet.horovod_build.finding import Finding, as_json


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([Finding("a", "ok", "fine"), Finding("b", "warning", "odd", "look")], 0),
        ([Finding("a", "error", "broken", "mend it")], 1),
    ],
)
def test_the_exit_code_and_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], findings: list[Finding], code: int
) -> None:
    monkeypatch.setattr(command, "examine", lambda: findings)
    assert cli.main(["doctor"]) == code
    assert findings[0].message in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == code
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads(as_json(findings))
    assert shown["works"] is (code == 0)


@pytest.mark.parametrize(("status", "remedy"), [("ok", "do something"), ("error", "")])
def test_a_finding_has_a_remedy_unless_it_is_ok(status: Any, remedy: str) -> None:
    with pytest.raises(ValueError, match="remedy must be given unless status is ok"):
        Finding("a", status, "m", remedy)


def test_this_environment_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    names = [finding["name"] for finding in json.loads(capsys.readouterr().out)["findings"]]
    assert {"torch", "horovod", "horovod.torch", "controller", "interface", "host name", "cores", "gpus"} <= set(names)
