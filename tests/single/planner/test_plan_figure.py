"""`plan --figure`: where the time of a step goes."""

import pytest

from hvd_imagenet.cli import main


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_formats(tmp_path, suffix, magic):
    path = tmp_path / f"plan{suffix}"
    assert main(["plan", "--workers", "8,64,256,352", "--figure", str(path)]) == 0
    assert path.read_bytes().startswith(magic)


def test_it_says_what_is_drawn(tmp_path):
    path = tmp_path / "plan.svg"
    words = ["plan", "--algorithm", "flat-ring", "--network", "50gbit", "--figure", str(path)]
    assert main(words) == 0
    text = path.read_text()
    for label in ("workers", "ms of a step", "efficiency", "the paper", "stragglers", "latency"):
        assert f"<!-- {label}" in text, label
    assert main([*words, "--network", "1gbit"]) == 0
    assert "the paper" not in path.read_text()  # it has measured nothing of the kind


def test_a_folder_that_is_not_there(tmp_path, capsys):
    path = tmp_path / "missing" / "plan.png"
    assert main(["plan", "--workers", "8", "--figure", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: --figure {path}: cannot be written (No such file or directory)")
