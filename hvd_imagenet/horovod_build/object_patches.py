"""Patches to the objects that ranks send each other: they are signed with the secret of the job."""

from hvd_imagenet.horovod_build.patch import Edit, Patch

_SECRET = "horovod/runner/common/util/secret.py"
_LAUNCH = "horovod/runner/launch.py"
_TENSORFLOW = "horovod/tensorflow/functions.py"
_TORCH = "horovod/torch/functions.py"

OBJECT_PATCHES = (
    Patch(
        name="signed-objects",
        reason=(
            "broadcast_object and allgather_object unpickle what comes over the connections of MPI and Gloo, to which "
            "a stranger in the network may have access. In a job with a secret, as horovodrun and hvd-imagenet launch "
            "start it, an object's HMAC is checked first."
        ),
        upstream="not reported",
        edits=(
            Edit(
                _SECRET,
                """\

def is_equal(shown, expected):
""",
                """\

def signed(message):
    \"\"\"A pickled object behind its digest, in a job whose processes know its secret; elsewhere as it is.\"\"\"
    return compute_digest(job_key(), b'object' + message) + message if HOROVOD_SECRET_KEY in os.environ else message


def verified(message):
    \"\"\"The pickled object that another process of the job has signed.\"\"\"
    if HOROVOD_SECRET_KEY not in os.environ:
        return message
    digest, message = message[:DIGEST_LENGTH], message[DIGEST_LENGTH:]
    if not check_digest(job_key(), b'object' + message, digest):
        raise RuntimeError('Security error: digest did not match the object.')
    return message


def is_equal(shown, expected):
""",
            ),
            Edit(
                _LAUNCH,
                """\
    if settings.run_func_mode:
        # the workers fetch the function with it
        env.update(secret.job_environment(settings.key))
""",
                """\
    # with it the workers fetch a function, and sign the objects that they send each other
    env.update(secret.job_environment(settings.key))
""",
            ),
            Edit(
                _TENSORFLOW,
                "import cloudpickle\n",
                """\
import cloudpickle

from horovod.runner.common.util import secret
""",
            ),
            Edit(
                _TENSORFLOW,
                "        t = tf.convert_to_tensor(bytearray(b.getvalue()), dtype=tf.uint8)\n",
                "        t = tf.convert_to_tensor(bytearray(secret.signed(b.getvalue())), dtype=tf.uint8)\n",
            ),
            Edit(
                _TENSORFLOW,
                "        buf = io.BytesIO(t.tobytes())\n",
                "        buf = io.BytesIO(secret.verified(t.tobytes()))\n",
            ),
            Edit(
                _TENSORFLOW,
                "            t_ = bytearray(b.getvalue())\n",
                "            t_ = bytearray(secret.signed(b.getvalue()))\n",
            ),
            Edit(
                _TENSORFLOW,
                "            buf = io.BytesIO(t_.tobytes())\n",
                "            buf = io.BytesIO(secret.verified(t_.tobytes()))\n",
            ),
            Edit(
                _TENSORFLOW,
                "        buf = io.BytesIO(byte_array.tobytes())\n",
                "        buf = io.BytesIO(secret.verified(byte_array.tobytes()))\n",
            ),
            Edit(
                _TENSORFLOW,
                "    t = tf.convert_to_tensor(bytearray(b.getvalue()), dtype=tf.uint8)\n",
                "    t = tf.convert_to_tensor(bytearray(secret.signed(b.getvalue())), dtype=tf.uint8)\n",
            ),
            Edit(
                _TORCH,
                "import cloudpickle\n",
                """\
import cloudpickle

from horovod.runner.common.util import secret
""",
            ),
            Edit(
                _TORCH,
                "        t = torch.ByteTensor(bytearray(b.getvalue()))\n",
                "        t = torch.ByteTensor(bytearray(secret.signed(b.getvalue())))\n",
            ),
            Edit(
                _TORCH,
                "        buf = io.BytesIO(t.numpy().tobytes())\n",
                "        buf = io.BytesIO(secret.verified(t.numpy().tobytes()))\n",
            ),
            Edit(
                _TORCH,
                "        buf = io.BytesIO(byte_array.tobytes())\n",
                "        buf = io.BytesIO(secret.verified(byte_array.tobytes()))\n",
            ),
            Edit(
                _TORCH,
                "    t = torch.ByteTensor(bytearray(b.getvalue()))\n",
                "    t = torch.ByteTensor(bytearray(secret.signed(b.getvalue())))\n",
            ),
        ),
    ),
)
