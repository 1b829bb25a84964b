"""The one part that is compiled; all else about the package is in setup.cfg."""

from setuptools import Extension, setup

# A plain library for ctypes: it needs neither Python's headers nor a libjpeg. Where there is no compiler, it is left
# out and images are decoded by Pillow alone. No fused multiplication: images must not depend on the processor.
jpeg_planes = Extension(
    "hvd_imagenet.data._jpeg_planes",
    sources=["csrc/jpeg_planes.c", "csrc/planes.c"],
    depends=["csrc/planes.h", "csrc/libjpeg/jconfig.h", "csrc/libjpeg/jmorecfg.h", "csrc/libjpeg/jpeglib.h"],
    include_dirs=["csrc/libjpeg"],
    libraries=["m", "dl"],
    extra_compile_args=["-O3", "-ffp-contract=off", "-Wno-psabi"],
    optional=True,
)

setup(ext_modules=[jpeg_planes])
