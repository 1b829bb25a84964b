"""The patches to Horovod 0.28.1, all of them, in the order in which they are applied."""

from hvd_imagenet.horovod_build.build_patches import BUILD_PATCHES
from hvd_imagenet.horovod_build.launcher_patches import LAUNCHER_PATCHES
from hvd_imagenet.horovod_build.tensorflow_patches import TENSORFLOW_PATCHES
from hvd_imagenet.horovod_build.torch_patches import TORCH_PATCHES

PATCHES = (*BUILD_PATCHES, *LAUNCHER_PATCHES, *TORCH_PATCHES, *TENSORFLOW_PATCHES)
