"""Fetches Horovod, patches it, builds it for the installed frameworks, caches and installs the wheel."""

from hvd_imagenet.horovod_build.installed import check_installed

__all__ = ["check_installed"]
