"""Patches that give the processes of a job its secret, which the key-value stores ask for."""

from hvd_imagenet.horovod_build.patch import Edit, Patch

_BASICS = "horovod/common/basics.py"
_HTTP_STORE = "horovod/common/gloo/http_store.cc"
_RAY_ELASTIC = "horovod/ray/elastic.py"
_RAY_ELASTIC_V2 = "horovod/ray/elastic_v2.py"
_RAY_RUNNER = "horovod/ray/runner.py"
_RENDEZVOUS = "horovod/runner/elastic/rendezvous.py"
_WORKER = "horovod/runner/elastic/worker.py"
_GLOO_RUN = "horovod/runner/gloo_run.py"
_LAUNCH = "horovod/runner/launch.py"
_SPARK_GLOO_RUN = "horovod/spark/gloo_run.py"

SECRET_PATCHES = (
    Patch(
        name="secret-of-the-job",
        reason=(
            "The processes of a job need its secret for the key-value stores: Python takes it from the environment, "
            "and the Gloo controller, which reads and writes the store in C++, shows a token made from it."
        ),
        upstream="not reported",
        edits=(
            Edit(
                _BASICS,
                "from horovod.common import util as util\n",
                """\
from horovod.common import util as util
from horovod.runner.common.util import secret
""",
            ),
            Edit(
                _BASICS,
                "        atexit.register(self.shutdown)\n",
                """\
        atexit.register(self.shutdown)

        # What the Gloo controller shows to the rendezvous server.
        secret.export_rendezvous_token()
""",
            ),
            Edit(
                _HTTP_STORE,
                """\

#include <cstring>
""",
                """\

#include <cstdlib>
#include <cstring>
""",
            ),
            Edit(
                _HTTP_STORE,
                """\
  for (int retry_cnt = 0; retry_cnt < MAX_RETRY_TIMES; ++retry_cnt) {
    try {
      http::Response response = request.send(method, body);
""",
                """\
  std::vector<std::string> headers;
  const char* token = std::getenv("HOROVOD_RENDEZVOUS_TOKEN");
  if (token != nullptr) {
    headers.push_back(std::string("X-Horovod-Token: ") + token);
  }
  for (int retry_cnt = 0; retry_cnt < MAX_RETRY_TIMES; ++retry_cnt) {
    try {
      http::Response response = request.send(method, body, headers);
""",
            ),
            Edit(
                _RAY_ELASTIC,
                "        self.rendezvous = RendezvousServer(self.settings.verbose)\n",
                "        self.rendezvous = RendezvousServer(self.settings.verbose, self.settings.key)\n",
            ),
            Edit(
                _RAY_ELASTIC,
                "            server_ip, nics, global_rendezv_port, elastic=True)\n",
                """\
            server_ip, nics, global_rendezv_port, elastic=True)
        self.run_env_vars.update(secret.job_environment(self.rendezvous.key))
""",
            ),
            Edit(
                _RAY_ELASTIC_V2,
                "from horovod.ray.adapter import Adapter, BaseParams\n",
                """\
from horovod.ray.adapter import Adapter, BaseParams
from horovod.runner.common.util import secret
""",
            ),
            Edit(
                _RAY_ELASTIC_V2,
                "        self.rendezvous = RendezvousServer(self.settings.verbose)\n",
                "        self.rendezvous = RendezvousServer(self.settings.verbose, self.settings.key)\n",
            ),
            Edit(
                _RAY_ELASTIC_V2,
                "            server_ip, nics, global_rendezv_port, elastic=True)\n",
                """\
            server_ip, nics, global_rendezv_port, elastic=True)
        self.run_env_vars.update(secret.job_environment(self.rendezvous.key))
""",
            ),
            Edit(
                _RAY_RUNNER,
                '            "HOROVOD_CPU_OPERATIONS": "gloo",\n',
                """\
            "HOROVOD_CPU_OPERATIONS": "gloo",
            **secret.job_environment(self.rendezvous.key),
""",
            ),
            Edit(
                _RENDEZVOUS,
                "    class ElasticRendezvousHandler(RendezvousHandler):\n",
                """\
    class ElasticRendezvousHandler(RendezvousHandler):
        object_scopes = frozenset([PUT_WORKER_ADDRESSES])

""",
            ),
            Edit(
                _RENDEZVOUS,
                """\
                addresses, secret_key = codec.loads_base64(value)
                self._put_worker_addresses(host, int(local_rank), addresses, secret_key)
""",
                """\
                addresses = codec.loads_base64(value)
                self._put_worker_addresses(host, int(local_rank), addresses, self.server.key)
""",
            ),
            Edit(
                _WORKER,
                """\
            secret_key = secret.make_secret_key()
            self._service = WorkerNotificationService(secret_key, nic, self)

            value = (self._service.addresses(), secret_key)
""",
                """\
            # The driver has the job's key too, which therefore need not be sent.
            secret_key = secret.job_key()
            self._service = WorkerNotificationService(secret_key, nic, self)

            value = self._service.addresses()
""",
            ),
            Edit(
                _GLOO_RUN,
                "def launch_gloo(command, exec_command, settings, nics, env, server_ip):\n",
                "def launch_gloo(command, exec_command, settings, nics, env, server_ip, key=None):\n",
            ),
            Edit(
                _GLOO_RUN,
                "    :param server_ip: ip to use for rendezvous server\n",
                """\
    :param server_ip: ip to use for rendezvous server
    :param key: the job's secret, which the workers have too; that of the settings if None
""",
            ),
            Edit(
                _GLOO_RUN,
                """\
    # start global rendezvous server and get port that it is listening on
    rendezvous = RendezvousServer(settings.verbose)
""",
                """\
    # start global rendezvous server and get port that it is listening on
    rendezvous = RendezvousServer(settings.verbose, key or settings.key)
""",
            ),
            Edit(
                _GLOO_RUN,
                "    handler = create_rendezvous_handler(driver)\n",
                """\
    handler = create_rendezvous_handler(driver)
    rendezvous.key = settings.key
""",
            ),
            Edit(
                _GLOO_RUN,
                """\
        run_func_server = KVStoreServer(verbose=settings.verbose)
        run_func_server_port = run_func_server.start_server()
        put_data_into_kvstore(server_ip, run_func_server_port, 'runfunc', 'func', command_or_func)
""",
                """\
        run_func_server = KVStoreServer(verbose=settings.verbose, key=settings.key)
        run_func_server_port = run_func_server.start_server()
        put_data_into_kvstore(server_ip, run_func_server_port, 'runfunc', 'func', command_or_func, settings.key)
""",
            ),
            Edit(
                _GLOO_RUN,
                """\
                results[i] = read_data_from_kvstore(server_ip, run_func_server_port, 'runfunc_result', str(i))
""",
                """\
                results[i] = read_data_from_kvstore(server_ip, run_func_server_port, 'runfunc_result', str(i),
                                                    settings.key)
""",
            ),
            Edit(
                _LAUNCH,
                """\
        run_func_server = KVStoreServer(verbose=settings.verbose)
        run_func_server_port = run_func_server.start_server()
        put_data_into_kvstore(driver_ip, run_func_server_port,
                              'runfunc', 'func', args.run_func)
""",
                """\
        run_func_server = KVStoreServer(verbose=settings.verbose, key=settings.key)
        run_func_server_port = run_func_server.start_server()
        put_data_into_kvstore(driver_ip, run_func_server_port,
                              'runfunc', 'func', args.run_func, settings.key)
""",
            ),
            Edit(
                _LAUNCH,
                "                                                    'runfunc_result', str(i))\n",
                "                                                    'runfunc_result', str(i), settings.key)\n",
            ),
            Edit(
                _LAUNCH,
                """\
    config_parser.set_env_from_args(env, args)

""",
                """\
    config_parser.set_env_from_args(env, args)
    if settings.run_func_mode:
        # the workers fetch the function with it
        env.update(secret.job_environment(settings.key))

""",
            ),
            Edit(
                _SPARK_GLOO_RUN,
                "    launch_gloo(command, exec_command, settings, nics, {}, server_ip)\n",
                "    launch_gloo(command, exec_command, settings, nics, {}, server_ip, key)\n",
            ),
        ),
    ),
)
