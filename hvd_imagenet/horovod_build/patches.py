"""The patches to Horovod 0.28.1, all of them, in the order in which they are applied."""

from hvd_imagenet.horovod_build.build_patches import BUILD_PATCHES
from hvd_imagenet.horovod_build.environment_patches import ENVIRONMENT_PATCHES
from hvd_imagenet.horovod_build.interface_patches import INTERFACE_PATCHES
from hvd_imagenet.horovod_build.launcher_patches import LAUNCHER_PATCHES
from hvd_imagenet.horovod_build.object_patches import OBJECT_PATCHES
from hvd_imagenet.horovod_build.secret_patches import SECRET_PATCHES
from hvd_imagenet.horovod_build.ssh_patches import SSH_PATCHES
from hvd_imagenet.horovod_build.standard_input_patches import STANDARD_INPUT_PATCHES
from hvd_imagenet.horovod_build.store_patches import STORE_PATCHES
from hvd_imagenet.horovod_build.tensorflow_patches import TENSORFLOW_PATCHES
from hvd_imagenet.horovod_build.torch_patches import TORCH_PATCHES

# Without one of these a stranger can run code, or other users of a host can read passwords.
SECURITY_PATCHES = (
    *STORE_PATCHES,
    *SECRET_PATCHES,
    *INTERFACE_PATCHES,
    *SSH_PATCHES,
    *STANDARD_INPUT_PATCHES,
    *ENVIRONMENT_PATCHES,
    *OBJECT_PATCHES,
)
PATCHES = (*BUILD_PATCHES, *LAUNCHER_PATCHES, *TORCH_PATCHES, *TENSORFLOW_PATCHES, *SECURITY_PATCHES)
