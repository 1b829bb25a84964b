"""What `doctor` has found, for short."""

from collections.abc import Iterable

from hvd_imagenet.horovod_build.finding import Finding


def statuses(findings: Iterable[Finding]) -> dict[str, str]:
    return {finding.name: finding.status for finding in findings}
