"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """A mistake that the user can mend: shown as one line `error: …`, exit code 2, no traceback.

    The message names what was wrong, the value received, the rule and the remedy.

    Example:
        >>> raise UserError("--data /nowhere: no such folder; make one with: hvd-imagenet make-dataset")
        Traceback (most recent call last):
        ...
        hvd_imagenet.errors.UserError: --data /nowhere: no such folder; make one with: hvd-imagenet make-dataset
    """
