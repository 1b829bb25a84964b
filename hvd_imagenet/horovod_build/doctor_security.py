"""What `doctor` finds out about open doors: whether the installed Horovod has the patches that close them."""

from collections.abc import Iterator

from hvd_imagenet.horovod_build.finding import Finding
from hvd_imagenet.horovod_build.installed import REMEDY, horovod_version, read_build_info
from hvd_imagenet.horovod_build.patches import SECURITY_PATCHES


def check_security() -> Iterator[Finding]:
    """Whether a stranger could run code through the installed Horovod's launcher."""
    version, info = horovod_version(), read_build_info()
    if version is None:
        return
    applied = info.patches if info is not None else ()
    missing = [patch.name for patch in SECURITY_PATCHES if patch.name not in applied]
    if not missing:
        yield Finding(
            "security", "ok", "horovodrun's servers listen on the chosen interface and ask for the job's secret"
        )
    elif len(missing) == len(SECURITY_PATCHES):
        yield Finding(
            "security",
            "warning",
            f"Horovod {version} without our patches: horovodrun unpickles what any host sends it (CVE-2024-10190, "
            "CVE-2026-31234), and shows your environment on command lines",
            f"{REMEDY}; until then start jobs with hvd-imagenet launch or mpirun",
        )
    else:
        yield Finding("security", "warning", f"Horovod {version} lacks the patches {', '.join(missing)}", REMEDY)
