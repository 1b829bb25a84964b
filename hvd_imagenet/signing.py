"""The secret of a job, and objects signed with it: what comes over the network is unpickled only after that.

The variable is Horovod's own: our build of Horovod signs with it what ranks send each other (`broadcast_object`).
"""

import base64
import hmac
import os
import pickle
import secrets

VARIABLE = "_HOROVOD_SECRET_KEY"
_SECRET_BYTES = 32
_DIGEST_BYTES = 32


def new_secret() -> str:
    """A secret for one job, as the value of the variable that each of its processes gets.

    Returns:
        Text as Horovod reads it: 32 random bytes, pickled, in base64.

    Example:
        >>> new_secret() == new_secret()
        False
    """
    return base64.b64encode(pickle.dumps(secrets.token_bytes(_SECRET_BYTES))).decode()


def _digest(data: bytes) -> bytes | None:
    secret = os.environ.get(VARIABLE)
    return hmac.digest(secret.encode(), data, "sha256") if secret else None


def signed(data: bytes) -> bytes:
    """What to send to another process of the job.

    Args:
        data: any.

    Returns:
        The data behind its HMAC-SHA-256; in a job without a secret, as a bare mpirun starts it, the data alone.

    Example:
        >>> verified(signed(b"data"))
        b'data'
    """
    return (_digest(data) or b"") + data


def verified(data: bytes) -> bytes:
    """What another process of the job has signed.

    Args:
        data: as it came.

    Returns:
        The data that was given to `signed`.

    Raises:
        ValueError: no process of this job has signed it.

    Example:
        >>> os.environ[VARIABLE] = new_secret()
        >>> verified(b"x" * 40)
        Traceback (most recent call last):
        ...
        ValueError: data must be signed with the job's secret, got 40 bytes that are not
        >>> del os.environ[VARIABLE]
    """
    if VARIABLE not in os.environ:
        return data
    digest, rest = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if not hmac.compare_digest(digest, _digest(rest) or b""):
        raise ValueError(f"data must be signed with the job's secret, got {len(data)} bytes that are not")
    return rest
