"""Config files that no option stands for, one line each."""

import pytest

from hvd_imagenet.cli import build_parser
from hvd_imagenet.errors import UserError

PLAIN = "must hold lines such as `minibatch: 8192`, without nesting"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: &a [1]\nb: [*a, *a]", PLAIN),  # aliases of aliases are exponentially longer than the file
        ("decay_epochs: [1, [2]]", PLAIN),
        ("decay_epochs: [1, --synthetic]", PLAIN),
        ("decay_epochs: [1, null]", PLAIN),
        ('data: "a\\0b"', PLAIN),
        ("minibatch: 2001-01-01", PLAIN),
        ("minibatch: !!binary aGVsbG8=", PLAIN),
        ("minibatch: !!set {a}", PLAIN),
        ("minibatch: 0x" + "f" * 5000, PLAIN),
        ("7: 7", PLAIN),
        ("? [1, 2]\n: 7", "cannot be read as YAML: while constructing a mapping"),
        ("minibatch: 2001-99-99", "cannot be read as YAML: month must be in 1..12"),
        ("minibatch: " + "[" * 5000, "cannot be read as YAML: maximum recursion depth exceeded"),
        (
            "minibatch: !!python/object/apply:os.system [ls]",
            "cannot be read as YAML: could not determine a constructor",
        ),
        ("help: true", "unrecognized arguments: --help; see: hvd-imagenet train --help"),
        ("epoch: 5", "unrecognized arguments: --epoch=5; see: hvd-imagenet train --help"),
        ('"epoch\\nx": 5', "unrecognized arguments: --epoch x=5; see: hvd-imagenet train --help"),
        ("minibatch: x", "argument --minibatch: invalid int value: 'x'; see: hvd-imagenet train --help"),
    ],
)
def test_what_stands_for_no_option(tmp_path, content, message):
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        build_parser("train").parse_args(["train", "-c", str(path)])
    assert str(caught.value).startswith(f"-c {path}: {message}")
    assert len(str(caught.value).splitlines()) == 1


def test_numbers_that_yaml_takes_for_text(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("area_range: [8e-2, 1]\nweight-decay: 1e-4\n")
    arguments = build_parser("train").parse_args(["train", "-c", str(path)])
    assert (arguments.area_range, arguments.weight_decay) == ([0.08, 1.0], 1e-4)
