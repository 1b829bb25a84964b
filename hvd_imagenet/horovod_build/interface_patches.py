"""Patches to Horovod's servers: they listen on the chosen interface, which is loopback for a job on one host."""

from hvd_imagenet.horovod_build.patch import Edit, Patch

_RAY_ELASTIC = "horovod/ray/elastic.py"
_RAY_ELASTIC_V2 = "horovod/ray/elastic_v2.py"
_RAY_RUNNER = "horovod/ray/runner.py"
_SERVICES = "horovod/runner/common/util/network.py"
_DRIVER_SERVICE = "horovod/runner/driver/driver_service.py"
_WORKER = "horovod/runner/elastic/worker.py"
_GLOO_RUN = "horovod/runner/gloo_run.py"
_HTTP_SERVER = "horovod/runner/http/http_server.py"
_LAUNCH = "horovod/runner/launch.py"
_TASK_FN = "horovod/runner/task_fn.py"
_NETWORK = "horovod/runner/util/network.py"

INTERFACE_PATCHES = (
    Patch(
        name="servers-on-the-chosen-interface",
        reason=(
            "All servers of the launcher listen on all interfaces. They now listen on the interface that was chosen, "
            "on loopback for a job on one host; where none was chosen, it is that over which the hosts are reached."
        ),
        upstream="not reported",
        edits=(
            Edit(
                _RAY_ELASTIC,
                "        global_rendezv_port = self.rendezvous.start(handler)\n",
                """\
        server_ip = socket.gethostbyname(socket.gethostname())
        global_rendezv_port = self.rendezvous.start(handler, server_ip)
""",
            ),
            Edit(
                _RAY_ELASTIC,
                """\
        logger.debug("[ray] getting driver IP")
        server_ip = socket.gethostbyname(socket.gethostname())
""",
                "",
            ),
            Edit(
                _RAY_ELASTIC_V2,
                "        global_rendezv_port = self.rendezvous.start(handler)\n",
                """\
        server_ip = socket.gethostbyname(socket.gethostname())
        global_rendezv_port = self.rendezvous.start(handler, server_ip)
""",
            ),
            Edit(
                _RAY_ELASTIC_V2,
                """\
        logger.debug("[ray] getting driver IP")
        server_ip = socket.gethostbyname(socket.gethostname())
""",
                "",
            ),
            Edit(
                _RAY_RUNNER,
                "        self.global_rendezv_port = self.rendezvous.start()\n",
                """\
        self.global_rendezv_port = self.rendezvous.start(address=ray.util.get_node_ip_address())
""",
            ),
            Edit(
                _SERVICES,
                """\
        message_len = struct.unpack('i', rfile.read(4))[0]
        message = rfile.read(message_len)
""",
                """\
        length = rfile.read(4)
        if len(length) != 4:
            raise EOFError()
        message_len = struct.unpack('i', length)[0]
        message = rfile.read(max(message_len, 0))
""",
            ),
            Edit(
                _SERVICES,
                """\
        self._server, _ = find_port(
            lambda addr: socketserver.ThreadingTCPServer(
                addr, self._make_handler()))
        self._server._block_on_close = True
        self._port = self._server.socket.getsockname()[1]
        self._addresses = self._get_local_addresses()
        self._thread = in_thread(target=self._server.serve_forever)
""",
                """\
        self._servers = []
        self._addresses = {}
        # a server of its own for each address of the interfaces
        for intf, ips in self._get_local_ips().items():
            for ip in ips:
                server, port = find_port(
                    lambda addr: socketserver.ThreadingTCPServer(
                        addr, self._make_handler()), ip)
                server._block_on_close = True
                self._servers.append(server)
                self._addresses.setdefault(intf, []).append((ip, port))
        self._threads = [in_thread(target=server.serve_forever) for server in self._servers]
""",
            ),
            Edit(_SERVICES, "    def _get_local_addresses(self):\n", "    def _get_local_ips(self):\n"),
            Edit(
                _SERVICES,
                "                    result[intf].append((addr.address, self._port))\n",
                "                    result[intf].append(addr.address)\n",
            ),
            Edit(
                _SERVICES,
                """\
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def get_port(self):
        return self._port
""",
                """\
        for server, thread in zip(self._servers, self._threads):
            server.shutdown()
            server.server_close()
            thread.join()

    def get_port(self):
        return self._servers[0].server_address[1]
""",
            ),
            Edit(
                _DRIVER_SERVICE,
                "    driver = HorovodRunDriverService(num_hosts, settings.key, settings.nics)\n",
                """\
    # No interface was chosen: it is the one (or those) over which the other hosts are reached.
    nics = network.interfaces_towards(set(all_host_names) - set(local_host_names))
    driver = HorovodRunDriverService(num_hosts, settings.key, nics or settings.nics)
""",
            ),
            Edit(
                _WORKER,
                "                                                        nic)\n",
                "                                                        {nic} if nic else None)\n",
            ),
            Edit(
                _GLOO_RUN,
                "    global_rendezv_port = rendezvous.start()\n",
                "    global_rendezv_port = rendezvous.start(address=server_ip)\n",
            ),
            Edit(_GLOO_RUN, "    global_rendezv_port = rendezvous.start(handler)\n", ""),
            Edit(
                _GLOO_RUN,
                "    server_ip = network.get_driver_ip(nics)\n",
                """\
    server_ip = network.get_driver_ip(nics)
    global_rendezv_port = rendezvous.start(handler, server_ip)
""",
            ),
            Edit(
                _GLOO_RUN,
                "        run_func_server_port = run_func_server.start_server()\n",
                "        run_func_server_port = run_func_server.start_server(server_ip)\n",
            ),
            Edit(
                _HTTP_SERVER,
                """\
    def start(self, handler_cls=RendezvousHandler):
        self._httpd, port = find_port(
            lambda addr: RendezvousHTTPServer(
                addr, handler_cls, self._verbose))
""",
                """\
    def start(self, handler_cls=RendezvousHandler, address='127.0.0.1'):
        self._httpd, port = find_port(
            lambda addr: RendezvousHTTPServer(
                addr, handler_cls, self._verbose), address)
""",
            ),
            Edit(
                _HTTP_SERVER,
                """\
    def start_server(self):
        self.httpd, port = find_port(
            lambda addr: KVStoreHTTPServer(
                addr, KVStoreHandler, self.verbose))
""",
                """\
    def start_server(self, address='127.0.0.1'):
        self.httpd, port = find_port(
            lambda addr: KVStoreHTTPServer(
                addr, KVStoreHandler, self.verbose), address)
""",
            ),
            Edit(
                _LAUNCH,
                "        run_func_server_port = run_func_server.start_server()\n",
                "        run_func_server_port = run_func_server.start_server(driver_ip)\n",
            ),
            Edit(
                _TASK_FN,
                """\


def _task_fn(index, num_hosts, driver_addresses, settings):
    task = task_service.HorovodRunTaskService(index, settings.key, settings.nics)
""",
                """\
from horovod.runner.util import network


def _task_fn(index, num_hosts, driver_addresses, settings):
    driver_hosts = [address for addresses in driver_addresses.values() for address, _ in addresses]
    task = task_service.HorovodRunTaskService(index, settings.key,
                                              network.interfaces_towards(driver_hosts) or settings.nics)
""",
            ),
            Edit(
                _NETWORK,
                """\
# Given server factory, find a usable port
def find_port(server_factory):
""",
                """\
def interface_towards(host):
    \"\"\"
    :param host: name or address of a host
    :return: the interface over which the kernel routes to the host, None if there is none; nothing is sent.
    \"\"\"
    with socket.socket(AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((host, 9))
        except OSError:
            return None
        own_address = sock.getsockname()[0]
    for iface, addrs in net_if_addrs().items():
        if any(addr.family == AF_INET and addr.address == own_address for addr in addrs):
            return iface
    return None


def interfaces_towards(hosts):
    return {iface for iface in map(interface_towards, hosts) if iface}


# Given server factory, find a usable port of the address
def find_port(server_factory, address):
""",
            ),
            Edit(_NETWORK, "            addr = ('', port)\n", "            addr = (address, port)\n"),
        ),
    ),
)
