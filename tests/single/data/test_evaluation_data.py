"""Which folders `evaluate` takes, and what it says of them."""

import pytest
from empty_files import touch

from hvd_imagenet.data.evaluation_data import list_evaluation
from hvd_imagenet.errors import UserError

TRAINED = ("ant", "bee", "cat", "dog")
LAYOUT = "wanted: train/CLASS/*.JPEG and val/CLASS/*.JPEG"
REMEDY = "give the data that it was trained on"


def _list(data, outputs=4, trained=TRAINED):
    images, matched = list_evaluation(data, outputs, trained, "checkpoint c")
    return [(images.name(i).removeprefix(f"{data}/"), int(images.labels[i])) for i in range(len(images))], str(matched)


def _classes(root, *names):
    return touch(root, *(f"{name}/1.JPEG" for name in names))


@pytest.mark.parametrize("below", ["val/", ""])
def test_class_folders_in_val_or_in_the_folder_itself(tmp_path, below):
    _classes(tmp_path, *(f"{below}{name}" for name in TRAINED))
    found, matched = _list(tmp_path)
    assert found == [(f"{below}{name}/1.JPEG", label) for label, name in enumerate(TRAINED)]
    assert matched == "all 4 classes by name"


def test_some_of_the_classes(tmp_path):
    _classes(tmp_path, "dog", "bee")
    found, matched = _list(tmp_path)
    assert found == [("bee/1.JPEG", 1), ("dog/1.JPEG", 3)]
    assert matched == "2 of 4 classes by name (the network chooses among all 4)"
    images, _ = list_evaluation(tmp_path, 4, TRAINED, "checkpoint c")
    assert images.classes == TRAINED


def test_train_may_hold_other_classes_than_the_checkpoint(tmp_path):
    _classes(tmp_path, "train/bee", "val/bee")
    assert _list(tmp_path) == ([("val/bee/1.JPEG", 1)], "1 of 4 classes by name (the network chooses among all 4)")


def test_numbers_are_those_of_the_sorted_classes_not_of_the_sorted_folders(tmp_path):
    trained = tuple(f"n{number:02d}" for number in range(12))
    _classes(tmp_path, *map(str, range(12)))
    found, matched = _list(tmp_path, 12, trained)
    assert found == [(f"{number}/1.JPEG", number) for number in range(12)]
    assert matched == "all 12 classes by number"
    assert list_evaluation(tmp_path, 12, trained, "")[0].classes == trained
    assert _list(tmp_path, 12, None) == (found, matched)


def test_numbers_may_have_gaps_below_the_last(tmp_path):
    _classes(tmp_path, "1", "3")
    found, matched = _list(tmp_path)
    assert found == [("1/1.JPEG", 1), ("3/1.JPEG", 3)]
    assert matched == "2 of 4 classes by number (the network chooses among all 4)"


def test_a_network_trained_on_folders_with_numbers_knows_them_by_name(tmp_path):
    trained = tuple(sorted(map(str, range(12))))
    _classes(tmp_path, "10", "2")
    assert _list(tmp_path, 12, trained)[0] == [("10/1.JPEG", trained.index("10")), ("2/1.JPEG", trained.index("2"))]


def test_a_flat_folder_with_its_labels(tmp_path):
    touch(tmp_path, "val/x_1.JPEG", "val/x_2.JPEG")
    (tmp_path / "val_labels.txt").write_text("dog\nbee\n")
    wanted = "2 of 4 classes by name (the network chooses among all 4)"
    assert _list(tmp_path) == ([("val/x_1.JPEG", 3), ("val/x_2.JPEG", 1)], wanted)
    assert _list(tmp_path / "val") == ([("x_1.JPEG", 3), ("x_2.JPEG", 1)], wanted)


def test_checkpoints_without_names_take_those_of_train(tmp_path):
    _classes(tmp_path, "train/a", "train/b", "train/c", "val/c")
    assert _list(tmp_path, 3, None) == (
        [("val/c/1.JPEG", 2)],
        "1 of 3 classes by name (the network chooses among all 3)",
    )


def test_checkpoints_without_names_take_the_order_of_as_many_folders(tmp_path):
    _classes(tmp_path, "a", "b")
    assert _list(tmp_path, 2, None) == ([("a/1.JPEG", 0), ("b/1.JPEG", 1)], "all 2 classes by order")


@pytest.mark.parametrize(
    ("folders", "trained", "message"),
    [
        (
            ["val/ant", "val/zebra"],
            TRAINED,
            "{0}/val: class 'zebra' is not among the 4 training classes; remove it here, or add its training images",
        ),
        (
            ["yak", "zebra"],
            TRAINED,
            "{0}: class 'yak' (and 1 more) is not among the 4 classes of checkpoint c, such as 'ant'; "
            "give a folder whose class folders have these names",
        ),
        (
            ["0", "1", "2"],
            TRAINED,
            "checkpoint c tells 4 classes apart, but {0} has folders with numbers up to 2; " + REMEDY,
        ),
        (
            ["0", "4"],
            None,
            "checkpoint c tells 4 classes apart, but {0} has folders with numbers up to 4; " + REMEDY,
        ),
        (["a", "b"], None, "checkpoint c tells 4 classes apart, but {0} has 2; " + REMEDY),
        (["train/a", "val/a"], None, "checkpoint c tells 4 classes apart, but {0} has 1; " + REMEDY),
        (["train/ant"], TRAINED, "data folder {0}: has no folder 'val'; " + LAYOUT),
        (["train/ant"], None, "data folder {0}: has no folder 'val'; " + LAYOUT),
    ],
)
def test_messages(tmp_path, folders, trained, message):
    _classes(tmp_path, *folders)
    with pytest.raises(UserError) as error:
        _list(tmp_path, 4, trained)
    assert str(error.value) == message.format(tmp_path)


def test_empty_folders(tmp_path):
    with pytest.raises(UserError, match="is empty; wanted: "):
        _list(tmp_path)
    (tmp_path / "val").mkdir()
    with pytest.raises(UserError, match=r"/val: is empty; wanted: "):
        _list(tmp_path)
    (tmp_path / "val" / "ant").mkdir()
    with pytest.raises(UserError, match=r"/val/ant: class 'ant' has no images"):
        _list(tmp_path)
