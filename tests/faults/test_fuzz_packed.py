"""Mutated manifests of packed images: each is loaded right, or refused with one line."""

import json
from pathlib import Path

import numpy as np
import pytest
from test_fuzz import changed, mutate, verdicts

from hvd_imagenet.data.listing import list_dataset
from hvd_imagenet.data.packed import open_packed
from hvd_imagenet.data.packing import PackOptions, pack

OF_VALUES, OF_BYTES = 1000, 500


@pytest.fixture(scope="module")
def packed(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "digits"
    train, validation = list_dataset(few_digits)
    pack({"train": train, "val": validation}, folder, PackOptions(), 1)
    return folder


def test_22_manifests_of_packed_images(packed: Path) -> None:
    path = packed / "manifest.json"
    good = path.read_bytes()
    labels = [images.labels.tolist() for images in open_packed(packed)]

    def loaded(content: bytes) -> str:
        path.write_bytes(content)
        try:
            assert [images.labels.tolist() for images in open_packed(packed)] == labels
        finally:
            path.write_bytes(good)
        return "loaded"

    def of_values(random: np.random.Generator) -> str:
        return loaded(json.dumps(changed(json.loads(good), random)).encode())

    def of_bytes(random: np.random.Generator) -> str:
        return loaded(mutate(good, random, [b"null", b"-1", b"../", b"[" * 5000, b"1e999", b"\xff"]))

    for cases, seed, one in ((OF_VALUES, 5, of_values), (OF_BYTES, 6, of_bytes)):
        counts = verdicts(cases, seed, one)
        print(counts)
        assert counts["refused"] > 0.3 * cases
