from pathlib import Path

import pytest

from hvd_imagenet.horovod_build.patch import Edit, Patch, PatchError, apply_patches, digest, is_compiled


def patch(*edits: Edit, name: str = "p") -> Patch:
    return Patch(name, "a reason", "not reported", edits)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing here", "patch p: f.txt must hold its anchor exactly once, found 0 times: 'anchor'"),
        ("anchor and anchor", "patch p: f.txt must hold its anchor exactly once, found 2 times: 'anchor'"),
    ],
)
def test_an_anchor_not_found_exactly_once_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "f.txt").write_text(text)
    with pytest.raises(PatchError) as raised:
        apply_patches(tmp_path, [patch(Edit("f.txt", "anchor", "x"))])
    assert str(raised.value) == message
    assert (tmp_path / "f.txt").read_text() == text


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PatchError, match=r"patch p: there is no file f\.txt in the sources"):
        apply_patches(tmp_path, [patch(Edit("f.txt", "anchor", "x"))])


def test_nothing_is_written_where_a_later_patch_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text("one two")
    with pytest.raises(PatchError, match="patch second"):
        apply_patches(tmp_path, [patch(Edit("f.txt", "one", "1")), patch(Edit("f.txt", "3", "x"), name="second")])
    assert (tmp_path / "f.txt").read_text() == "one two"


def test_edits_are_made_in_order_each_on_the_result_of_the_last(tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text("a\n")
    (tmp_path / "g.txt").write_text("ü\n", encoding="utf-8")
    apply_patches(
        tmp_path, [patch(Edit("f.txt", "a", "b b"), Edit("g.txt", "ü", "u")), patch(Edit("f.txt", "b b", "c"))]
    )
    assert (tmp_path / "f.txt").read_text() == "c\n"
    assert (tmp_path / "g.txt").read_text() == "u\n"


def test_the_digest_tells_where_one_part_ends() -> None:
    one, other = [patch(Edit("f", "ab", "c"))], [patch(Edit("f", "a", "bc"))]
    assert digest(one, compiled=True) != digest(other, compiled=True)


@pytest.mark.parametrize(
    ("file", "compiled"),
    [
        ("horovod/common/gloo/http_store.cc", True),
        ("CMakeLists.txt", True),
        ("setup.py", True),
        ("horovod/torch/CMakeLists.txt", True),
        ("third_party/gloo/build.py", True),
        ("horovod/runner/launch.py", False),
        ("horovod/__init__.py", False),
    ],
)
def test_which_edits_need_the_compiler(file: str, compiled: bool) -> None:
    assert is_compiled(Edit(file, "a", "b")) is compiled
    nothing, one = digest([], compiled=True), digest([patch(Edit(file, "a", "b"))], compiled=True)
    assert (one != nothing) is compiled
