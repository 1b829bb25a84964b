"""The secret of a job, which its processes get in Horovod's own variable.

Ranks of ours send each other nothing that is unpickled. In a program that calls Horovod's `broadcast_object` or
`allgather_object`, our build of Horovod signs with it what they pickle, and checks it before it is unpickled.
"""

import base64
import secrets

VARIABLE = "_HOROVOD_SECRET_KEY"
_SECRET_BYTES = 32
# Horovod unpickles the variable's value: opcodes of pickle for "so many bytes" and "done".
_SHORT_BYTES, _STOP = b"C", b"."


def new_secret() -> str:
    """A secret for one job, as the value of the variable that each of its processes gets.

    Returns:
        Text as Horovod reads it: 32 random bytes, pickled, in base64.

    Example:
        >>> new_secret() == new_secret()
        False
    """
    secret = secrets.token_bytes(_SECRET_BYTES)
    return base64.b64encode(_SHORT_BYTES + bytes([_SECRET_BYTES]) + secret + _STOP).decode()
