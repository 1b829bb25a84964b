"""Patches to Horovod's key-value stores: only the job's own processes read, write and send objects."""

from hvd_imagenet.horovod_build.patch import Edit, Patch

_SECRET = "horovod/runner/common/util/secret.py"
_HTTP_CLIENT = "horovod/runner/http/http_client.py"
_HTTP_SERVER = "horovod/runner/http/http_server.py"

STORE_PATCHES = (
    Patch(
        name="authenticated-key-value-store",
        reason=(
            "The launcher's key-value and rendezvous servers let anybody in, and what was put into them is unpickled "
            "(CVE-2024-10190, CVE-2026-31234). They now ask for a token made from the job's secret, and an object is "
            "unpickled only after its HMAC with that secret was checked, by servers and by clients."
        ),
        upstream="not reported",
        edits=(
            Edit(
                _SECRET,
                """\
import os


""",
                """\
import os

from horovod.runner.common.util import codec

""",
            ),
            Edit(
                _SECRET,
                "    return hmac.compare_digest(computed_digest, digest)\n",
                """\
    return hmac.compare_digest(computed_digest, digest)


# A request to a key-value store shows a token, which only the job's processes can compute; a pickled object needs a
# digest of itself as well. The C++ side, which sends no objects, takes the token from the environment.
TOKEN_HEADER = 'X-Horovod-Token'
DIGEST_HEADER = 'X-Horovod-Digest'
HOROVOD_RENDEZVOUS_TOKEN = 'HOROVOD_RENDEZVOUS_TOKEN'


def job_environment(key):
    return {HOROVOD_SECRET_KEY: codec.dumps_base64(key)}


def job_key():
    \"\"\"The secret of the job that this process belongs to.\"\"\"
    if HOROVOD_SECRET_KEY not in os.environ:
        raise RuntimeError('{} is not set: this process was not started by the launcher of a Horovod job.'
                           .format(HOROVOD_SECRET_KEY))
    return codec.loads_base64(os.environ[HOROVOD_SECRET_KEY])


def rendezvous_token(key):
    return compute_digest(key, b'rendezvous').hex()


def export_rendezvous_token():
    if HOROVOD_SECRET_KEY in os.environ:
        os.environ[HOROVOD_RENDEZVOUS_TOKEN] = rendezvous_token(job_key())


def object_digest(key, method, path, body):
    head = '{} {} {}\\n'.format(method, path, len(body))
    return compute_digest(key, head.encode() + body).hex()


def is_equal(shown, expected):
    return hmac.compare_digest((shown or '').encode(), expected.encode())
""",
            ),
            Edit(
                _HTTP_CLIENT,
                """\
from urllib.request import Request
from urllib.request import urlopen

from horovod.runner.common.util import codec


def read_data_from_kvstore(addr, port, scope, key):
    try:
        url = "http://{addr}:{port}/{scope}/{key}".format(
            addr=addr, port=str(port), scope=scope, key=key
        )
        req = Request(url)
        resp = urlopen(req)
        # TODO: remove base64 encoding because base64 is not efficient
        return codec.loads_base64(resp.read())
""",
                """\
from urllib.request import ProxyHandler, Request, build_opener

from horovod.runner.common.util import codec, secret


def _send(job_key, method, addr, port, scope, key, body=None):
    path = '/{scope}/{key}'.format(scope=scope, key=key)
    headers = {secret.TOKEN_HEADER: secret.rendezvous_token(job_key),
               secret.DIGEST_HEADER: secret.object_digest(job_key, method, path, body or b'')}
    url = 'http://{addr}:{port}{path}'.format(addr=addr, port=str(port), path=path)
    # no proxy: the server is one of the job's hosts
    resp = build_opener(ProxyHandler({})).open(Request(url, data=body, headers=headers, method=method))
    return path, resp


def read_data_from_kvstore(addr, port, scope, key, job_key=None):
    job_key = job_key or secret.job_key()
    try:
        path, resp = _send(job_key, 'GET', addr, port, scope, key)
        value = resp.read()
        if not secret.is_equal(resp.headers.get(secret.DIGEST_HEADER),
                               secret.object_digest(job_key, 'RESPONSE', path, value)):
            raise RuntimeError('Security error: digest did not match the value of {}.'.format(path))
        # TODO: remove base64 encoding because base64 is not efficient
        return codec.loads_base64(value)
""",
            ),
            Edit(
                _HTTP_CLIENT,
                """\
def put_data_into_kvstore(addr, port, scope, key, value):
    try:
        url = "http://{addr}:{port}/{scope}/{key}".format(
            addr=addr, port=str(port), scope=scope, key=key
        )
        req = Request(url, data=codec.dumps_base64(value, to_ascii=False))
        req.get_method = lambda: "PUT"  # for urllib2 compatibility
        urlopen(req)
""",
                """\
def put_data_into_kvstore(addr, port, scope, key, value, job_key=None):
    job_key = job_key or secret.job_key()
    try:
        _send(job_key, 'PUT', addr, port, scope, key, codec.dumps_base64(value, to_ascii=False))
""",
            ),
            Edit(
                _HTTP_SERVER,
                """\
from http.server import HTTPServer, SimpleHTTPRequestHandler

""",
                """\
from http.server import HTTPServer, BaseHTTPRequestHandler

from horovod.runner.common.util import secret
""",
            ),
            Edit(
                _HTTP_SERVER,
                "BAD_REQUEST = 400\n",
                """\
BAD_REQUEST = 400
FORBIDDEN = 403
""",
            ),
            Edit(
                _HTTP_SERVER,
                """\
class KVStoreHandler(SimpleHTTPRequestHandler):
    # Set timeout
    timeout = SINGLE_REQUEST_TIMEOUT

    # Override GET handler
    def do_GET(self):
""",
                """\
class KVStoreHandler(BaseHTTPRequestHandler):
    # Set timeout
    timeout = SINGLE_REQUEST_TIMEOUT

    # The scopes whose values are pickled objects; None for all.
    object_scopes = None

    def _comes_from_job(self):
        return secret.is_equal(self.headers.get(secret.TOKEN_HEADER),
                               secret.rendezvous_token(self.server.key))

    def _is_signed(self, scope, value):
        return ((self.object_scopes is not None and scope not in self.object_scopes) or
                secret.is_equal(self.headers.get(secret.DIGEST_HEADER),
                                secret.object_digest(self.server.key, self.command, self.path, value)))

    # Override GET handler
    def do_GET(self):
        if not self._comes_from_job():
            self.send_status_code(FORBIDDEN)
            return

""",
            ),
            Edit(
                _HTTP_SERVER,
                "            self.send_response(200)\n",
                """\
            self.send_response(200)
            self.send_header(secret.DIGEST_HEADER, secret.object_digest(self.server.key, 'RESPONSE', self.path, value))
""",
            ),
            Edit(
                _HTTP_SERVER,
                "    def do_PUT(self):\n",
                """\
    def do_PUT(self):
        if not self._comes_from_job():
            self.send_status_code(FORBIDDEN)
            return

""",
            ),
            Edit(
                _HTTP_SERVER,
                "            self.send_status_code(TIMEOUT)\n",
                """\
            self.send_status_code(TIMEOUT)
            return

        if not self._is_signed(scope, value):
            self.send_status_code(FORBIDDEN)
""",
            ),
            Edit(
                _HTTP_SERVER,
                """\
    # Override DELETE handler
    def do_DELETE(self):
""",
                """\
    object_scopes = frozenset()

    # Override DELETE handler
    def do_DELETE(self):
        if not self._comes_from_job():
            self.send_status_code(FORBIDDEN)
            return

""",
            ),
            Edit(
                _HTTP_SERVER,
                "    def __init__(self, verbose=0):\n",
                """\
    def __init__(self, verbose=0, key=None):
        self.key = key or secret.make_secret_key()
""",
            ),
            Edit(
                _HTTP_SERVER,
                "                addr, handler_cls, self._verbose))\n",
                """\
                addr, handler_cls, self._verbose))
        self._httpd.key = self.key
""",
            ),
            Edit(
                _HTTP_SERVER,
                "    def stop(self):\n",
                """\
    def stop(self):
        if self._httpd is None:
            return
""",
            ),
            Edit(
                _HTTP_SERVER,
                "class KVStoreHTTPServer(HTTPServer, object):\n",
                """\
class KVStoreHTTPServer(socketserver.ThreadingMixIn, HTTPServer, object):
    daemon_threads = True

""",
            ),
            Edit(
                _HTTP_SERVER,
                "    def __init__(self, verbose):\n",
                """\
    def __init__(self, verbose, key):
        self.key = key
""",
            ),
            Edit(
                _HTTP_SERVER,
                "                addr, KVStoreHandler, self.verbose))\n",
                """\
                addr, KVStoreHandler, self.verbose))
        self.httpd.key = self.key
""",
            ),
        ),
    ),
)
