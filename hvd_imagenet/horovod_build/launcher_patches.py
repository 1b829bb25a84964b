"""Patches to horovodrun: Open MPI 5, and no framework imported to launch."""

from hvd_imagenet.horovod_build.patch import Edit, Patch

_MPI_RUN = "horovod/runner/mpi_run.py"
_UTIL = "horovod/common/util.py"


def _built_edit(feature: str) -> Edit:
    """`FEATURE_built()` answers from the record of the build and no longer imports every framework to ask it."""
    return Edit(
        _UTIL,
        f"def {feature}_built(verbose=False):\n    for ext_base_name in EXTENSIONS:\n",
        f"def {feature}_built(verbose=False):\n"
        f"    recorded = _recorded_at_build('{feature}_built')\n"
        "    if recorded is not None:\n"
        "        return recorded\n"
        "    for ext_base_name in EXTENSIONS:\n",
    )


LAUNCHER_PATCHES = (
    Patch(
        name="open-mpi-5-options",
        reason=(
            "horovodrun writes options with one dash (-mca, -bind-to, -map-by); Open MPI 5 takes the first of them for "
            "the program to run. With two dashes Open MPI 4 and 5 understand them."
        ),
        upstream="not reported",
        edits=(
            Edit(
                _MPI_RUN,
                "_OMPI_FLAGS = ['-mca pml ob1', '-mca btl ^openib']",
                "_OMPI_FLAGS = ['--mca pml ob1', '--mca btl ^openib']",
            ),
            Edit(
                _MPI_RUN,
                "_NO_BINDING_ARGS = ['-bind-to none', '-map-by slot']",
                "_NO_BINDING_ARGS = ['--bind-to none', '--map-by slot']",
            ),
            Edit(
                _MPI_RUN,
                "_SOCKET_BINDING_ARGS = ['-bind-to socket', '-map-by socket', '-rank-by core']",
                "_SOCKET_BINDING_ARGS = ['--bind-to socket', '--map-by socket', '--rank-by core']",
            ),
            Edit(_MPI_RUN, "else f'-mca plm_rsh_args", "else f'--mca plm_rsh_args"),
            Edit(_MPI_RUN, "'-mca btl_tcp_if_include {nics}'", "'--mca btl_tcp_if_include {nics}'"),
            Edit(_MPI_RUN, "'-mca plm_rsh_no_tree_spawn true'", "'--mca plm_rsh_no_tree_spawn true'"),
            Edit(_MPI_RUN, "'-mca plm_rsh_num_concurrent {}'", "'--mca plm_rsh_num_concurrent {}'"),
        ),
    ),
    Patch(
        name="mpirun-of-the-environment",
        reason=(
            "horovodrun takes the mpirun that PATH finds first, which need not be that of the MPI that Horovod was "
            "built with. One that lies beside the interpreter goes first."
        ),
        upstream="not reported",
        edits=(
            Edit(
                _MPI_RUN,
                "def mpi_available(env=None):\n",
                "def _mpirun():\n"
                "    beside_python = os.path.join(os.path.dirname(sys.executable), 'mpirun')\n"
                "    return quote(beside_python) if os.access(beside_python, os.X_OK) else 'mpirun'\n\n\n"
                "def mpi_available(env=None):\n",
            ),
            Edit(_MPI_RUN, "    command = 'mpirun --version'\n", "    command = _mpirun() + ' --version'\n"),
            Edit(
                _MPI_RUN,
                "        'mpirun {basic_args} '\n",
                "        '{mpirun} {basic_args} '\n",
            ),
            Edit(
                _MPI_RUN,
                "        .format(basic_args=basic_args,\n                num_proc=settings.num_proc,\n",
                "        .format(mpirun=_mpirun(),\n"
                "                basic_args=basic_args,\n"
                "                num_proc=settings.num_proc,\n",
            ),
        ),
    ),
    Patch(
        name="launch-without-frameworks",
        reason=(
            "To learn whether MPI and Gloo were built in, horovodrun imports TensorFlow (or torch) in a process of "
            "its own before it launches anything, which takes seconds."
        ),
        upstream="not reported",
        edits=(
            Edit(
                _UTIL,
                "@_cache\ndef gpu_available(ext_base_name, verbose=False):\n",
                "def _recorded_at_build(feature):\n"
                '    """What metadata.json says of a feature, or None where it says nothing."""\n'
                "    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, 'metadata.json')\n"
                "    try:\n"
                "        with open(path) as f:\n"
                "            return json.load(f).get(feature)\n"
                "    except (OSError, ValueError):\n"
                "        return None\n\n\n"
                "@_cache\ndef gpu_available(ext_base_name, verbose=False):\n",
            ),
            *(_built_edit(feature) for feature in ("mpi", "gloo", "nccl", "ddl", "ccl")),
        ),
    ),
)
