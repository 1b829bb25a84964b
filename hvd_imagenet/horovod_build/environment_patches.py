"""Patches to what horovodrun passes on of the environment: by an allow-list, and not on command lines."""

from hvd_imagenet.horovod_build.patch import Edit, Patch

_ENV = "horovod/runner/common/util/env.py"
_GLOO_RUN = "horovod/runner/gloo_run.py"
_LAUNCH = "horovod/runner/launch.py"
_MPI_RUN = "horovod/runner/mpi_run.py"

ENVIRONMENT_PATCHES = (
    Patch(
        name="no-environment-on-command-lines",
        reason=(
            "horovodrun --gloo writes every environment value (WANDB_API_KEY and the like) on the command lines of "
            "the workers and of ssh, where all users of a host can read them. The workers now get an allow-list of "
            "variables (--env NAME adds one), as their environment or, over ssh, by standard input."
        ),
        upstream="not reported",
        edits=(
            Edit(
                _ENV,
                "import os\n",
                """\
import os
import sys
""",
            ),
            Edit(
                _ENV,
                "KUBEFLOW_MPI_EXEC = '/etc/mpi/kubexec.sh'\n",
                """\
# What the workers get of the user's environment: what the interpreter, the frameworks, GPUs, MPI and batch systems
# read, and the names in HOROVOD_PASS_ENV (separated by commas; one that ends in * stands for all that begin so).
PASSED_ON = re.compile(
    '(CC|COLUMNS|CXX|GLIBC_TUNABLES|HOME|HOSTNAME|LANG|LANGUAGE|LD_LIBRARY_PATH|LD_PRELOAD|LINES|LOGNAME|NO_COLOR|PATH|'
    'PWD|SHELL|SSH_AUTH_SOCK|TEMP|TERM|TMP|TMPDIR|TZ|USER|VIRTUAL_ENV|XDG_CACHE_HOME|XDG_CONFIG_HOME|XDG_DATA_HOME|'
    'XDG_RUNTIME_DIR)$|LC_|PYTHON|CONDA_|OMP_|GOMP_|KMP_|MKL_|DNNL_|ONEDNN_|OPENBLAS_|MALLOC_|TF_|XLA_|KERAS_|TORCH_|'
    'TORCHINDUCTOR_|PYTORCH_|HOROVOD_|HVD_IMAGENET_|CUDA_|CUDNN_|CUBLAS_|NVIDIA_|NCCL_|HIP_|ROCM_|ROCR_|RCCL_|MIOPEN_|'
    'OMPI_|OPAL_|PMIX_|PRTE_|UCX_|UCC_|FI_|I_MPI_|HYDRA_|SLURM_|PBS_|LSB_')
CREDENTIAL = re.compile('(KEY|TOKENS?|SECRET|PASSWORD|PASSWD|CREDENTIALS?|JWT)(_|$)|^TF_VAR_', re.IGNORECASE)
PASS_ENV = 'HOROVOD_PASS_ENV'
# Left out, yet training programs may look for them.
TOOLS = ('WANDB_', 'MLFLOW_', 'COMET_', 'NEPTUNE_', 'CLEARML_', 'HF_', 'KAGGLE_', 'AWS_ACCESS_', 'AZURE_STORAGE_',
         'GOOGLE_APPLICATION_')

KUBEFLOW_MPI_EXEC = '/etc/mpi/kubexec.sh'


def is_passed_on(v, environ):
    for name in filter(None, environ.get(PASS_ENV, '').split(',')):
        if v == name or (name.endswith('*') and v.startswith(name[:-1])):
            return True
    if v.startswith('HVD_IMAGENET_'):
        return True
    return bool(PASSED_ON.match(v)) and not CREDENTIAL.search(v)


def worker_environment(environ=os.environ):
    left_out = sorted(v for v in environ if v.startswith(TOOLS) and not is_passed_on(v, environ))
    if left_out:
        print('note: the workers do not get {}; --env NAME (or {}=NAME) passes one on'
              .format(', '.join(left_out), PASS_ENV), file=sys.stderr)
    return {v: value for v, value in environ.items() if is_passed_on(v, environ)}
""",
            ),
            Edit(_GLOO_RUN, "import copy\n", ""),
            Edit(
                _GLOO_RUN,
                """\
from shlex import quote
from typing import Optional, Any

from horovod.runner.common.util import env as env_util, safe_shell_exec
""",
                """\
from shlex import join, quote
from typing import Optional, Any

from horovod.runner.common.util import env as env_util, safe_shell_exec, secret
""",
            ),
            Edit(
                _GLOO_RUN,
                """\
def _slot_info_to_command_fn(run_command, env):
    # TODO: Workaround for over-buffered outputs. Investigate how mpirun avoids this problem.
    env = copy.copy(env)  # copy env so we do not leak env modifications
    env['PYTHONUNBUFFERED'] = '1'

""",
                "def _slot_info_to_command_fn(run_command):\n",
            ),
            Edit(
                _GLOO_RUN,
                """\
        return '{shell} {horovod_env} {env} {run_command}' .format(
            shell='env',
            horovod_env=horovod_rendez_env,
            env=' '.join(['%s=%s' % (key, quote(value)) for key, value in env.items()
                          if env_util.is_exportable(key)]),
""",
                """\
        # The user's environment is not written here, where others can read it: exec_command sees to that.
        # TODO: Workaround for over-buffered outputs. Investigate how mpirun avoids this problem.
        return '{shell} {horovod_env} {env} {run_command}' .format(
            shell='env',
            horovod_env=horovod_rendez_env,
            env='PYTHONUNBUFFERED=1',
""",
            ),
            Edit(
                _GLOO_RUN,
                """\
def _create_elastic_worker_fn(exec_command, run_command, env, event):
    get_command_with_env = _slot_info_to_command_fn(run_command, env)
""",
                """\
def _create_elastic_worker_fn(exec_command, run_command, event):
    get_command_with_env = _slot_info_to_command_fn(run_command)
""",
            ),
            Edit(
                _GLOO_RUN,
                "def _exec_command_fn(settings):\n",
                """\
def _remote_script(command, env):
    \"\"\"What the shell of another host reads from its standard input: the environment, then the command.\"\"\"
    lines = ['cd {} > /dev/null 2>&1'.format(quote(os.getcwd()))]
    lines += ['export {}={}'.format(key, quote(value)) for key, value in env.items()
              if key == secret.HOROVOD_SECRET_KEY or (env_util.is_exportable(key) and key.isidentifier())]
    return '\\n'.join([*lines, 'exec {} < /dev/null'.format(command), ''])


def _exec_command_fn(settings, env):
""",
            ),
            Edit(
                _GLOO_RUN,
                """\

    # Non-elastic gloo runs should terminate all workers when any fail.
""",
                """\

    # what the workers show to the job's servers
    env = {**env, **secret.job_environment(settings.key)}

    # Non-elastic gloo runs should terminate all workers when any fail.
""",
            ),
            Edit(
                _GLOO_RUN,
                """\
        if host_address not in local_addresses:
            local_command = ('cd {pwd} > /dev/null 2>&1 ; {command}'
                             .format(pwd=quote(os.getcwd()), command=command))
            command = get_remote_command(local_command,
""",
                """\
        stdin = None
        if host_address not in local_addresses:
            stdin = _remote_script(command, env)
            command = get_remote_command('exec /bin/sh -s', reads_stdin=True,
""",
            ),
            Edit(
                _GLOO_RUN,
                "            print(command)\n",
                "            print(command if isinstance(command, str) else join(command))\n",
            ),
            Edit(
                _GLOO_RUN,
                "            exit_code = safe_shell_exec.execute(command,\n",
                """\
            exit_code = safe_shell_exec.execute(command,
                                                env=env,
                                                stdin=stdin,
""",
            ),
            Edit(
                _GLOO_RUN,
                "    slot_info_to_command = _slot_info_to_command_fn(run_command, env)\n",
                "    slot_info_to_command = _slot_info_to_command_fn(run_command)\n",
            ),
            Edit(
                _GLOO_RUN,
                """\
    # threads will keep running and ssh session.
    exec_command = _exec_command_fn(settings)
""",
                """\
    # threads will keep running and ssh session.
    exec_command = _exec_command_fn(settings, env)
""",
            ),
            Edit(
                _GLOO_RUN,
                "        create_worker = _create_elastic_worker_fn(exec_command, run_command, env, event)\n",
                "        create_worker = _create_elastic_worker_fn(exec_command, run_command, event)\n",
            ),
            Edit(
                _GLOO_RUN,
                "    exec_command = _exec_command_fn(settings)\n",
                "    exec_command = _exec_command_fn(settings, env)\n",
            ),
            Edit(
                _LAUNCH,
                "from horovod.runner.common.util import config_parser, hosts, safe_shell_exec, secret, timeout\n",
                """\
from horovod.runner.common.util import config_parser, env as env_util, hosts, safe_shell_exec, secret, timeout
""",
            ),
            Edit(
                _LAUNCH,
                "    args = parser.parse_args()\n",
                """\
    parser.add_argument('--env', action='append', default=[], metavar='NAME',
                        help='Pass on this environment variable to the workers, beside those that Python, the '
                             'frameworks, GPUs, MPI and batch systems read. Its value is not written on any '
                             'command line. Can be given several times.')

    args = parser.parse_args()

    if args.env:
        os.environ[env_util.PASS_ENV] = ','.join([*filter(None, [os.environ.get(env_util.PASS_ENV)]), *args.env])
""",
            ),
            Edit(
                _LAUNCH,
                """\
                         'installed and reinstall Horovod with HOROVOD_WITH_GLOO=1 to debug the build error.')

    env = os.environ.copy()
    config_parser.set_env_from_args(env, args)
""",
                """\
                         'installed and reinstall Horovod with HOROVOD_WITH_GLOO=1 to debug the build error.')

    env = env_util.worker_environment()
    config_parser.set_env_from_args(env, args)
""",
            ),
            Edit(_LAUNCH, "    env = os.environ.copy()\n", "    env = env_util.worker_environment()\n"),
            Edit(
                _MPI_RUN,
                "from horovod.runner.common.util import env as env_util, hosts, safe_shell_exec, tiny_shell_exec\n",
                """\
from horovod.runner.common.util import env as env_util, hosts, safe_shell_exec, secret, tiny_shell_exec
""",
            ),
            Edit(
                _MPI_RUN,
                "                    '-x %s' % key for key in sorted(env.keys()) if env_util.is_exportable(key))\n",
                """\
                    '-x %s' % key for key in sorted(env.keys()) if env_util.is_exportable(key))
    if settings.key and secret.HOROVOD_SECRET_KEY in env and not impi_or_mpich:
        env_list += ' -x ' + secret.HOROVOD_SECRET_KEY
""",
            ),
        ),
    ),
)
