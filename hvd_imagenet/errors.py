"""The exceptions that stand for a user's mistake, and for a run that was told to leave."""


class UserError(Exception):
    """A mistake that the user can mend: shown as one line `error: …`, exit code 2, no traceback.

    The message names what was wrong, the value received, the rule and the remedy.

    Example:
        >>> raise UserError("--data /nowhere: no such folder; make one with: hvd-imagenet make-dataset")
        Traceback (most recent call last):
        ...
        hvd_imagenet.errors.UserError: --data /nowhere: no such folder; make one with: hvd-imagenet make-dataset
    """

    spokesman = 0
    """The rank that tells the user, where all ranks meet the same mistake."""


class AgreedError(UserError):
    """A mistake that one rank met and all ranks have heard of; that rank tells the user.

    Args:
        message: the line to show.
        spokesman: the lowest rank that met the mistake.

    Example:
        >>> AgreedError("disk full on node7", spokesman=12).spokesman
        12
    """

    def __init__(self, message: str, spokesman: int) -> None:
        super().__init__(message)
        self.spokesman = spokesman


class Preempted(Exception):
    """All processes have agreed to leave, because a signal has come to one of them; exit code 143, nothing is lost.

    Example:
        >>> Preempted("SIGTERM").exit_code
        143
    """

    exit_code = 143
    """That of a process which SIGTERM ends, whichever signal it was."""
