"""Which libjpeg decodes: that the processor does not matter, that a wrong one is refused, that Pillow does without."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from odd_jpegs import PLAIN, by_pillow, crops
from PIL import Image

from hvd_imagenet.data import jpeg
from hvd_imagenet.data.decode import decode_crop
from hvd_imagenet.data.jpeg import PartialDecoder, partial_decoder
from hvd_imagenet.errors import UserError

CSRC = Path(__file__).parents[3] / "csrc"
# As setup.py compiles it.
FLAGS = ["-O3", "-ffp-contract=off", "-Wno-psabi", "-fPIC", "-shared"]


def _compiled(folder, name, *flags, sources=None):
    target = folder / name
    sources = sources or [CSRC / "planes.c", CSRC / "jpeg_planes.c"]
    command = ["cc", *FLAGS, *flags, f"-I{CSRC / 'libjpeg'}", "-o", target, *sources, "-lm", "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return target


@pytest.mark.parametrize("flags", [["-DNO_CLONES"], ["-DNO_CLONES", "-O1"], ["-march=native"]])
def test_the_processors_instructions_change_nothing(tmp_path, flags):
    other = PartialDecoder(_compiled(tmp_path, "other.so", *flags), jpeg._libjpeg())
    assert list(crops(other, range(100))) == list(crops(partial_decoder(), range(100)))


FAKE_LIBJPEG = """
#include <stdio.h>
#include <jpeglib.h>
struct jpeg_error_mgr *jpeg_std_error(struct jpeg_error_mgr *errors) { return errors; }
void jpeg_CreateDecompress(j_decompress_ptr image, int version, size_t bytes) { AT_CREATION; }
void jpeg_destroy_decompress(j_decompress_ptr image) {}
void jpeg_mem_src(j_decompress_ptr image, const unsigned char *data, unsigned long bytes) {}
int jpeg_read_header(j_decompress_ptr image, boolean needed) {
    image->image_width = 40; image->image_height = 24; image->num_components = 3;
    image->jpeg_color_space = JCS_GRAYSCALE; image->data_precision = 8; return 1;
}
boolean jpeg_start_decompress(j_decompress_ptr image) { image->err->error_exit((j_common_ptr)image); return 1; }
boolean jpeg_input_complete(j_decompress_ptr image) { return 1; }
JDIMENSION jpeg_read_raw_data(j_decompress_ptr image, JSAMPIMAGE rows, JDIMENSION most) { return most; }
"""


# As a library of another interface (conda's libjpeg 8) does on being told version and size; or later, by chance.
@pytest.mark.parametrize("at_creation", ["image->err->error_exit((j_common_ptr)image)", "(void)version"])
def test_another_libjpeg_is_refused(tmp_path, monkeypatch, at_creation):
    (tmp_path / "fake.c").write_text(FAKE_LIBJPEG.replace("AT_CREATION", at_creation))
    fake = _compiled(tmp_path, "libjpeg-fake.so", sources=[tmp_path / "fake.c"])
    monkeypatch.setattr(jpeg, "_libjpeg", lambda: fake)
    assert partial_decoder.__wrapped__() == f"{fake} does not decode as Pillow does"


def test_a_library_that_sees_something_else_is_refused(monkeypatch):
    monkeypatch.setattr(PartialDecoder, "crop", lambda *_: np.full((16, 16, 3), 128, np.uint8))
    assert str(partial_decoder.__wrapped__()).endswith(" does not decode as Pillow does")


def test_a_library_without_the_functions_is_refused(monkeypatch):
    other = jpeg._libjpeg().with_name(next(name for name in os.listdir(jpeg._libjpeg().parent) if "libpng" in name))
    monkeypatch.setattr(jpeg, "_libjpeg", lambda: other)
    assert partial_decoder.__wrapped__() == f"{other} is no libjpeg-turbo that can be used"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("_shim", Path("nowhere.so"), "there was no C compiler when hvd_imagenet was installed"),
        ("_libjpeg", None, "is not from its wheel for Linux, which brings libjpeg-turbo"),
    ],
)
def test_without_the_shim_pillow_reads(monkeypatch, name, value, reason):
    monkeypatch.setattr(jpeg, name, lambda: value)
    found = partial_decoder.__wrapped__()
    assert reason in found
    monkeypatch.setattr("hvd_imagenet.data.decode.partial_decoder", lambda: found)
    monkeypatch.setattr(jpeg, "partial_decoder", lambda: found)
    assert jpeg.decoder_name() == f"Pillow {Image.__version__}"
    box = (120, 90, 240, 180)
    assert np.abs(decode_crop(PLAIN, "", lambda *_: box, 96) - by_pillow(PLAIN, box, 96)).max() == 0


def test_pillow_may_be_asked_for(monkeypatch):
    monkeypatch.setenv("HVD_IMAGENET_DECODER", "pillow")
    assert partial_decoder.__wrapped__() == "HVD_IMAGENET_DECODER=pillow is set"
    monkeypatch.setenv("HVD_IMAGENET_DECODER", "fast")
    with pytest.raises(UserError) as error:
        partial_decoder.__wrapped__()
    assert str(error.value) == "HVD_IMAGENET_DECODER must be unset or pillow, got 'fast'; unset it"


def test_the_name_has_both_versions():
    assert jpeg.decoder_name().startswith("libjpeg-turbo ")
    assert jpeg.decoder_name().endswith(f" of Pillow {Image.__version__}, partial")
