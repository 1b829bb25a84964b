"""Patches that let horovodrun give secrets to what it starts by standard input."""

from hvd_imagenet.horovod_build.patch import Edit, Patch

_SAFE_SHELL_EXEC = "horovod/runner/common/util/safe_shell_exec.py"
_DRIVER_SERVICE = "horovod/runner/driver/driver_service.py"
_TASK_FN = "horovod/runner/task_fn.py"
_REMOTE = "horovod/runner/util/remote.py"

STANDARD_INPUT_PATCHES = (
    Patch(
        name="secrets-by-standard-input",
        reason=(
            "The probe of the interfaces writes the job's secret on command lines, where all users of a host can read "
            "it. It now goes through standard input, as does what other processes on other hosts are to keep to "
            "themselves."
        ),
        upstream="not reported",
        edits=(
            Edit(
                _SAFE_SHELL_EXEC,
                "def _exec_middleman(command, env, exit_event, stdout, stderr, rw):\n",
                "def _exec_middleman(command, env, exit_event, stdout, stderr, rw, stdin=None):\n",
            ),
            Edit(
                _SAFE_SHELL_EXEC,
                "                                      stdout=stdout_w, stderr=stderr_w)\n",
                """\
                                      stdin=None if stdin is None else subprocess.PIPE,
                                      stdout=stdout_w, stderr=stderr_w)

    def write_stdin():
        try:
            with executor_shell.stdin as pipe:
                pipe.write(stdin.encode())
        except BrokenPipeError:
            pass  # it ended before it had read all

    if stdin is not None:
        in_thread(write_stdin)
""",
            ),
            Edit(
                _SAFE_SHELL_EXEC,
                "            prefix_output_with_timestamp=False):\n",
                "            prefix_output_with_timestamp=False, stdin=None):\n",
            ),
            Edit(
                _SAFE_SHELL_EXEC,
                "    :param prefix_output_with_timestamp: prepend text streams with timestamp if True\n",
                """\
    :param prefix_output_with_timestamp: prepend text streams with timestamp if True
    :param stdin: text for the command's standard input, where other users cannot read it
""",
            ),
            Edit(
                _SAFE_SHELL_EXEC,
                "                                                          (r, w)))\n",
                "                                                          (r, w), stdin))\n",
            ),
            Edit(
                _DRIVER_SERVICE,
                """\

from socket import AF_INET
""",
                """\

from shlex import join
from socket import AF_INET
""",
            ),
            Edit(_DRIVER_SERVICE, "    def _exec_command(command):\n", "    def _exec_command(command, task):\n"),
            Edit(
                _DRIVER_SERVICE,
                "                                                stderr=host_output)\n",
                """\
                                                stderr=host_output,
                                                stdin=task)
""",
            ),
            Edit(
                _DRIVER_SERVICE,
                """\
        command = \\
            '{python} -m horovod.runner.task_fn {index} {num_hosts} ' \\
            '{driver_addresses} {settings}' \\
            .format(python=sys.executable,
                    index=codec.dumps_base64(index),
                    num_hosts=codec.dumps_base64(num_hosts),
                    driver_addresses=codec.dumps_base64(driver_addresses),
                    settings=codec.dumps_base64(settings))
        if host_name not in local_host_names:
            command = get_remote_command(command,
""",
                """\
        command = [sys.executable, '-m', 'horovod.runner.task_fn']
        # by standard input: the settings hold the job's secret, and command lines can be read by other users
        task = codec.dumps_base64((index, num_hosts, driver_addresses, settings)) + '\\n'
        if host_name not in local_host_names:
            command = get_remote_command(join(command), reads_stdin=True,
""",
            ),
            Edit(
                _DRIVER_SERVICE,
                """\
            print('Launching horovod task function: {}'.format(command))
        args_list.append([command])
""",
                """\
            print('Launching horovod task function: {}'.format(join(command)))
        args_list.append([command, task])
""",
            ),
            Edit(
                _TASK_FN,
                """\
    if len(sys.argv) != 5:
        print('Usage: {} <index> <num_hosts> <driver_addresses> <settings>'.format(sys.argv[0]))
        sys.exit(1)

    index = codec.loads_base64(sys.argv[1])
    num_hosts = codec.loads_base64(sys.argv[2])
    driver_addresses = codec.loads_base64(sys.argv[3])
    settings = codec.loads_base64(sys.argv[4])
""",
                """\
    if len(sys.argv) != 1:
        print('Usage: {} < <index, num_hosts, driver_addresses and settings>'.format(sys.argv[0]))
        sys.exit(1)

    index, num_hosts, driver_addresses, settings = codec.loads_base64(sys.stdin.readline())
""",
            ),
            Edit(
                _REMOTE,
                """\
def get_remote_command(local_command, host, port=None, identity_file=None, timeout_s=None):
    \"\"\"The arguments, which need no shell here, that have the other host's shell run a command line.\"\"\"
""",
                """\
def get_remote_command(local_command, host, port=None, identity_file=None, timeout_s=None, reads_stdin=False):
    \"\"\"The arguments, which need no shell here, that have the other host's shell run a command line.\"\"\"
    if reads_stdin and env_util.is_kubeflow_mpi():
        raise RuntimeError('{} passes no standard input on to {}; give --network-interface and use MPI, or an '
                           'MPI Operator that starts workers by ssh'.format(env_util.KUBEFLOW_MPI_EXEC, host))
""",
            ),
        ),
    ),
)
