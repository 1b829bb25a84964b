from pathlib import Path

import pytest

from hvd_imagenet.commands import restarts
from hvd_imagenet.commands.restarts import words_of_starts
from hvd_imagenet.errors import UserError

WORDS = ["--data", "d", "--recipe", "digits"]


def test_without_out_all_starts_share_a_new_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = words_of_starts(WORDS)
    (folder,) = (tmp_path / "runs").iterdir()
    expected = [*WORDS, "--out", f"runs/{folder.name}"]
    assert words(0) == words(1) == words(2) == expected


@pytest.mark.parametrize("resume", [[], ["--resume", "never"], ["--resume", "elsewhere"]])
def test_later_starts_go_on_from_a_checkpoint_once_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: list[str]
) -> None:
    given = [*WORDS, "--out", str(tmp_path / "run"), *resume]
    words = words_of_starts(given)
    assert words(0) == words(1) == given
    monkeypatch.setattr(restarts.checkpoints, "latest", lambda out: out / "checkpoints" / "3")
    assert words(0) == given
    assert words(1) == [*given, "--resume", "auto"]


def test_an_out_in_a_file_of_options_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("options.yaml").write_text("out: there\ndata: d\n")
    assert words_of_starts(["-c", "options.yaml"])(1) == ["-c", "options.yaml"]
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--epochs", "x", "--data", "d"],
            "argument --epochs: invalid float value: 'x'; see: hvd-imagenet train --help",
        ),
        (["--nonesuch"], "unrecognized arguments: --nonesuch; see: hvd-imagenet train --help"),
        ([], "--data is missing: name a folder, or make one: hvd-imagenet make-dataset DIR --source digits"),
    ],
)
def test_mistakes_are_told_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        words_of_starts(words)
    assert str(caught.value) == message
    assert not Path("runs").exists()
