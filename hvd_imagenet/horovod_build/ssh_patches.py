"""Patches to how horovodrun starts ssh and mpirun: as argument lists, with host keys checked."""

from hvd_imagenet.horovod_build.patch import Edit, Patch

_HOSTS = "horovod/runner/common/util/hosts.py"
_SAFE_SHELL_EXEC = "horovod/runner/common/util/safe_shell_exec.py"
_GLOO_RUN = "horovod/runner/gloo_run.py"
_LAUNCH = "horovod/runner/launch.py"
_MPI_RUN = "horovod/runner/mpi_run.py"
_REMOTE = "horovod/runner/util/remote.py"

SSH_PATCHES = (
    Patch(
        name="ssh-without-a-shell",
        reason=(
            "horovodrun makes shell commands of host names and options, and runs ssh with StrictHostKeyChecking=no. "
            "ssh and mpirun now get arguments that no shell sees, hosts behind --, and an unknown host key is "
            "refused. Processes of one host open no TCP sockets for MPI, and a configuration file is read by YAML's "
            "safe loader."
        ),
        upstream="not reported",
        edits=(
            Edit(
                _HOSTS,
                "    pattern = re.compile(r'^[\\w.-]+:[0-9]+$')\n",
                "    pattern = re.compile(r'^\\w[\\w.-]*:[0-9]+$')\n",
            ),
            Edit(
                _SAFE_SHELL_EXEC,
                "    executor_shell = subprocess.Popen(command, shell=True, env=env,\n",
                "    executor_shell = subprocess.Popen(command, shell=isinstance(command, str), env=env,\n",
            ),
            Edit(
                _SAFE_SHELL_EXEC,
                "    :param command: command to execute\n",
                "    :param command: command line for a shell, or a list of arguments that none sees\n",
            ),
            Edit(
                _GLOO_RUN,
                """\
            local_command = quote('cd {pwd} > /dev/null 2>&1 ; {command}'
                                  .format(pwd=os.getcwd(), command=command))
""",
                """\
            local_command = ('cd {pwd} > /dev/null 2>&1 ; {command}'
                             .format(pwd=quote(os.getcwd()), command=command))
""",
            ),
            Edit(
                _LAUNCH,
                "            config = yaml.load(f, Loader=yaml.FullLoader)\n",
                "            config = yaml.safe_load(f)\n",
            ),
            Edit(
                _LAUNCH,
                "            raise RuntimeError('could not connect to some hosts via ssh')\n",
                """\
            raise RuntimeError('could not connect to some hosts via ssh; '
                               'log in to each by hand once, so that its host key is known')
""",
            ),
            Edit(
                _MPI_RUN,
                """\
from shlex import quote

from horovod.runner.common.util import env as env_util, hosts, safe_shell_exec, tiny_shell_exec
""",
                """\
from shlex import quote, split

from horovod.runner.common.util import env as env_util, hosts, safe_shell_exec, tiny_shell_exec
from horovod.runner.util import network
""",
            ),
            Edit(
                _MPI_RUN,
                "                hosts=','.join(host_names) if host_names and impi_or_mpich else settings.hosts)\n",
                """\
                hosts=quote(','.join(host_names) if host_names and impi_or_mpich else settings.hosts))

    # Shared memory serves one machine; with TCP every process would listen on all of its addresses.
    if mpi == _OMPI_IMPL and not network.filter_local_addresses(host_names):
        mpi_impl_flags = [flag.replace('^openib', '^openib,tcp') for flag in mpi_impl_flags]
""",
            ),
            Edit(
                _MPI_RUN,
                """\
    # Execute the mpirun command.
    if settings.run_func_mode:
        exit_code = safe_shell_exec.execute(mpirun_command, env=env, stdout=stdout, stderr=stderr)
        if exit_code != 0:
            raise RuntimeError("mpirun failed with exit code {exit_code}".format(exit_code=exit_code))
    else:
        os.execve('/bin/sh', ['/bin/sh', '-c', mpirun_command], env)
""",
                """\
    # Execute the mpirun command; no shell sees it.
    mpirun_arguments = split(mpirun_command)
    if settings.run_func_mode:
        exit_code = safe_shell_exec.execute(mpirun_arguments, env=env, stdout=stdout, stderr=stderr)
        if exit_code != 0:
            raise RuntimeError("mpirun failed with exit code {exit_code}".format(exit_code=exit_code))
    else:
        os.execvpe(mpirun_arguments[0], mpirun_arguments, env)
""",
            ),
            Edit(
                _REMOTE,
                """\
SSH_COMMAND_PREFIX = 'ssh -o PasswordAuthentication=no -o StrictHostKeyChecking=no'


def get_ssh_command(local_command, host, port=None, identity_file=None, timeout_s=None):
    port_arg = f'-p {port}' if port is not None else ''
    identity_file_arg = f'-i {identity_file}' if identity_file is not None else ''
    timeout_arg = f'-o ConnectTimeout={timeout_s}' if timeout_s is not None else ''
    return f'{SSH_COMMAND_PREFIX} {host} {port_arg} {identity_file_arg} {timeout_arg} {local_command}'


def get_remote_command(local_command, host, port=None, identity_file=None, timeout_s=None):
    return f'{env_util.KUBEFLOW_MPI_EXEC} {host} {local_command}' if env_util.is_kubeflow_mpi() \\
""",
                """\
# The host's key must be known: BatchMode refuses another one where ssh would ask.
SSH_COMMAND_PREFIX = ['ssh', '-o', 'BatchMode=yes', '-o', 'PasswordAuthentication=no']


def get_ssh_command(local_command, host, port=None, identity_file=None, timeout_s=None):
    port_args = ['-p', str(port)] if port is not None else []
    identity_file_args = ['-i', identity_file] if identity_file is not None else []
    timeout_args = ['-o', f'ConnectTimeout={timeout_s}'] if timeout_s is not None else []
    # behind -- no host is taken for an option
    return [*SSH_COMMAND_PREFIX, *port_args, *identity_file_args, *timeout_args, '--', host, local_command]


def get_remote_command(local_command, host, port=None, identity_file=None, timeout_s=None):
    \"\"\"The arguments, which need no shell here, that have the other host's shell run a command line.\"\"\"
    return [env_util.KUBEFLOW_MPI_EXEC, host, local_command] if env_util.is_kubeflow_mpi() \\
""",
            ),
        ),
    ),
)
