"""The HTTP server, talked to by http.client, by curl and by raw sockets."""

from __future__ import annotations

import email.utils
import http.client
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from joulefloor.clock import SystemClock
from joulefloor.errors import SourceError, StartError
from joulefloor.exchange import Limits
from joulefloor.http1 import BadRequest, Request, Response, http_date, parse_head, text
from joulefloor.listen import Address, parse_address
from joulefloor.log import Log
from joulefloor.server import Server
from joulefloor.units import Seconds
from stack.query import eventually
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from joulefloor.exchange import Gate
    from joulefloor.http1 import Route
    from joulefloor.server import Tls

LARGE = bytes(range(256)) * 16_384  # 4 MiB: more than the kernel buffers of a connection
PIECES = [
    *(b"GET ", b"/metrics", b" HTTP/1.1", b"\r\n", b"\r", b"\n", b"Host: a", b": ", b"\0"),
    *(b"Content-Length: 5", b"Transfer-Encoding: chunked", b"POST", b"\xff", b"HEAD /"),
]
GET = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n"


class Running(NamedTuple):
    """A server in a thread."""

    server: Server
    port: int
    log: io.StringIO

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def client(self) -> closing[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        return closing(connection)

    def exchange(self, data: bytes) -> bytes:
        """Send bytes, read until the server closes."""
        with self.connect() as sock:
            sock.sendall(data)
            return read_all(sock)

    def works(self) -> bool:
        """Whether a new client is served."""
        with self.client() as client, suppress(OSError, http.client.HTTPException):
            client.request("GET", "/metrics")
            return client.getresponse().read() == b"joules 1\n"
        return False


def read_all(sock: socket.socket) -> bytes:
    received = b""
    while chunk := sock.recv(65_536):
        received += chunk
    return received


def fail(error: Exception) -> Route:
    def route(_: Request) -> Response:
        raise error

    return route


ROUTES: dict[str, Route] = {
    "/metrics": lambda _: text(200, "joules 1"),
    "/large": lambda _: Response(200, "application/octet-stream", LARGE),
    "/echo": lambda request: text(200, f"{request.path}?{request.query}"),
    "/fails": fail(ValueError("bad number")),
    "/lost": fail(SourceError.__new__(SourceError)),
    "/broken-pipe": fail(OSError("disk on fire")),
}


@contextmanager
def serving(
    limits: Limits = Limits(),  # noqa: B008  # immutable
    *,
    tls: Tls | None = None,
    gate: Gate | None = None,
    address: str = "127.0.0.1:0",
) -> Iterator[Running]:
    log = io.StringIO()
    clock = SystemClock()
    server = Server(
        [address],
        ROUTES,
        clock=clock,
        log=Log(clock, stream=log),
        limits=limits,
        tls=tls,
        gate=gate,
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield Running(server, int(server.urls[0].rpartition(":")[2]), log)
    finally:
        server.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving() as running:
        yield running


def test_one_connection_serves_many_requests(running: Running) -> None:
    with running.client() as client:
        for _ in range(20):
            client.request("GET", "/metrics")
            answer = client.getresponse()
            assert (answer.status, answer.read()) == (200, b"joules 1\n")
            assert answer.getheader("Connection") == "keep-alive"
            assert answer.getheader("Content-Length") == "9"
            assert answer.getheader("X-Content-Type-Options") == "nosniff"


def test_head_answers_the_same_headers_without_body(running: Running) -> None:
    with running.client() as client:
        client.request("HEAD", "/large")
        answer = client.getresponse()
        assert (answer.status, answer.getheader("Content-Length")) == (200, str(len(LARGE)))
        assert answer.read() == b""
        client.request("GET", "/metrics")
        assert client.getresponse().read() == b"joules 1\n"


def test_a_large_answer_arrives_whole(running: Running) -> None:
    with running.client() as client:
        client.request("GET", "/large")
        assert client.getresponse().read() == LARGE


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(running: Running, method: str) -> None:
    with running.client() as client:
        client.request(method, "/metrics")
        answer = client.getresponse()
        assert (answer.status, answer.getheader("Allow")) == (405, "GET, HEAD")
        answer.read()


def test_a_body_is_refused_and_never_read_as_a_request(running: Running) -> None:
    body = GET
    smuggled = b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = running.exchange(smuggled + body)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_pipelined_requests_are_answered_in_order(running: Running) -> None:
    paths = [f"/echo?{number}" for number in range(300)]
    requests = b"".join(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for path in paths)
    last = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answers = running.exchange(requests + last)
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answers.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [f"{path}\n".encode() for path in paths] + [b"joules 1\n"]


def test_pipelined_requests_behind_a_large_answer_wait_for_it(running: Running) -> None:
    requests = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n" + GET
    last = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answers = running.exchange(requests + last)
    assert answers.count(b"joules 1\n") == 2
    assert len(answers) > len(LARGE)


def test_a_request_may_arrive_byte_by_byte(running: Running) -> None:
    with running.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in GET.replace(b"Host", b"Connection: close\r\nHost"):
            sock.sendall(bytes([byte]))
        assert read_all(sock).endswith(b"joules 1\n")


def test_http_1_0_closes_unless_asked_to_stay(running: Running) -> None:
    assert running.exchange(b"GET /metrics HTTP/1.0\r\n\r\n").endswith(b"joules 1\n")
    with running.connect() as sock:
        sock.sendall(b"GET /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert b"Connection: keep-alive" in sock.recv(4096)
        sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert b"Connection: close" in read_all(sock)


def test_connection_close_is_honoured(running: Running) -> None:
    answer = running.exchange(GET.replace(b"Host", b"Connection: foo, Close\r\nHost"))
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/echo", "/echo?"),
        ("/echo?a=b&c=?", "/echo?a=b&c=?"),
        ("http://node:13806/echo?x", "/echo?x"),
        ("HTTPS://node/echo", "/echo?"),
    ],
)
def test_targets_are_understood(running: Running, target: str, seen: str) -> None:
    with running.client() as client:
        client.putrequest("GET", target)
        client.endheaders()
        assert client.getresponse().read() == f"{seen}\n".encode()


def test_an_unknown_path_is_404(running: Running) -> None:
    with running.client() as client:
        client.request("GET", "/nope")
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (404, b"404: nothing is at /nope\n")


@pytest.mark.parametrize("path", ["/fails", "/broken-pipe", "/lost"])
def test_a_page_that_fails_is_500_and_one_log_line(running: Running, path: str) -> None:
    with running.client() as client:
        for _ in range(3):
            client.request("GET", path)
            answer = client.getresponse()
            assert answer.status == 500
            answer.read()
    assert running.log.getvalue().count(f"path={path}") == 1
    assert running.works()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: a\x00b\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        (b"GET metrics HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /m\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"get /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000, 431),
    ],
)
def test_bad_requests_are_told_so_and_closed(
    running: Running, request_bytes: bytes, status: int
) -> None:
    answer = running.exchange(request_bytes)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"\r\nConnection: close\r\n" in answer


def test_empty_lines_before_a_request_are_forgiven(running: Running) -> None:
    answer = running.exchange(b"\r\n\r\nGET /metrics HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"joules 1\n")


def test_a_client_that_closes_its_sending_half_is_still_answered(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(GET + GET)
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).count(b"joules 1\n") == 2


def test_half_a_request_and_an_end_closes_quietly(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(GET[:20])
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b""
    assert running.works()


def test_fifty_parallel_scrapes_get_the_same_bytes(running: Running) -> None:
    start = threading.Barrier(50)

    def scrape(_: int) -> bytes:
        with running.client() as client:
            start.wait(PATIENCE_S)
            client.request("GET", "/large")
            return client.getresponse().read()

    with ThreadPoolExecutor(50) as pool:
        assert set(pool.map(scrape, range(50))) == {LARGE}


def test_a_reader_that_never_reads_delays_nobody(running: Running) -> None:
    slow = [running.connect() for _ in range(5)]
    for sock in slow:
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
    for _ in range(20):
        assert running.works()
    for sock in slow:
        sock.close()
    assert running.works()


def test_curl_is_served(running: Running) -> None:
    url = f"http://127.0.0.1:{running.port}/echo?from=curl"
    done = subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "--compressed", url, url],
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert done.stdout == b"/echo?from=curl\n" * 2


def test_a_client_that_never_finishes_its_request_is_told_and_closed() -> None:
    limits = Limits(header_s=Seconds(0.15))
    with serving(limits) as running, running.connect() as loris, running.connect() as silent:
        loris.sendall(GET[:-2])
        assert eventually(running.works, within_s=PATIENCE_S)
        assert read_all(loris).startswith(b"HTTP/1.1 408 ")
        assert read_all(silent) == b""
        assert eventually(running.works, within_s=PATIENCE_S)


def test_trickling_bytes_does_not_extend_the_time_for_a_request() -> None:
    with serving(Limits(header_s=Seconds(0.3))) as running, running.connect() as loris:
        loris.settimeout(0.02)
        loris.sendall(b"GET / HTTP/1.1\r\nX: ")
        received = b""
        for _ in range(500):
            try:
                received = loris.recv(4096)
                break
            except TimeoutError:
                loris.sendall(b"x")
        assert received.startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_is_closed_after_its_time() -> None:
    with serving(Limits(idle_s=Seconds(0.1))) as running, running.connect() as sock:
        sock.sendall(GET)
        assert read_all(sock).endswith(b"joules 1\n")


def test_a_reader_that_stops_is_closed_after_its_time() -> None:
    with serving(Limits(write_s=Seconds(0.2))) as running, running.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        deadline = time.monotonic() + PATIENCE_S
        while running.server._connections and time.monotonic() < deadline:
            assert running.works()
            gone = all(c.phase.name != "WRITING" for c in tuple(running.server._connections))
            if gone:
                break
        assert time.monotonic() < deadline


def test_beyond_the_limit_a_client_is_told_and_those_inside_are_served() -> None:
    with serving(Limits(connections=3)) as running:
        inside = [running.connect() for _ in range(3)]
        for sock in inside:
            sock.sendall(GET[:10])
        with running.connect() as outside:
            assert read_all(outside).startswith(b"HTTP/1.1 503 ")
        for sock in inside:
            sock.sendall(GET[10:])
            assert sock.recv(4096).endswith(b"joules 1\n")
        for sock in inside:
            sock.close()


def test_an_idle_connection_makes_room_for_a_new_client() -> None:
    with serving(Limits(connections=2)) as running:
        idle = [running.connect() for _ in range(2)]
        for sock in idle:
            sock.sendall(GET)
            assert sock.recv(4096).endswith(b"joules 1\n")
        assert running.works()
        assert idle[0].recv(4096) == b""
        for sock in idle:
            sock.close()


@pytest.mark.parametrize("attempt", range(3))
def test_stop_ends_a_busy_server_at_once(attempt: int) -> None:
    with serving() as running:
        socks = [running.connect() for _ in range(attempt * 20)]
        for sock in socks:
            sock.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        running.server.stop()
        running.server.stop()
        for sock in socks:
            sock.close()


def test_a_server_that_ends_by_itself_while_it_is_told_to_takes_no_other_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its bell is a file whose number, once closed, may be that of any other."""
    write = os.eventfd_write

    def write_late(bell: int, value: int) -> None:
        closer = threading.Thread(target=running.server.close)
        closers.append(closer)
        closer.start()
        closer.join(0.2)
        write(bell, value)

    closers: list[threading.Thread] = []
    with serving() as running:
        running.server.stop()
        assert eventually(lambda: running.server._wake_fd < 0, within_s=PATIENCE_S)
        running.server.stop()
    clock = SystemClock()
    server = Server(["127.0.0.1:0"], ROUTES, clock=clock, log=Log(clock), limits=Limits())
    running = Running(server, 0, io.StringIO())
    monkeypatch.setattr(os, "eventfd_write", write_late)
    server.stop()
    (closer,) = closers
    closer.join(PATIENCE_S)
    server.stop()
    assert len(closers) == 1


def test_a_signal_ends_the_server_with_its_thread_waiting_in_epoll() -> None:
    program = (
        "import signal\n"
        "from joulefloor.clock import SystemClock\n"
        "from joulefloor.http1 import text\n"
        "from joulefloor.log import Log\n"
        "from joulefloor.server import Server\n"
        "clock = SystemClock()\n"
        "routes = {'/': lambda request: text(200, 'ok')}\n"
        "server = Server(['127.0.0.1:0'], routes, clock=clock, log=Log(clock))\n"
        "signal.signal(signal.SIGTERM, lambda *_: server.stop())\n"
        "print(server.urls[0], flush=True)\n"
        "server.run()\n"
        "print('stopped')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        place = url.removeprefix("http://")
        with closing(http.client.HTTPConnection(place, timeout=PATIENCE_S)) as client:
            client.request("GET", "/")
            assert client.getresponse().read() == b"ok\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "stopped\n"
        assert process.wait(PATIENCE_S) == 0


def test_a_server_without_tls_or_users_loads_no_heavy_module() -> None:
    program = (
        "import sys\n"
        "import joulefloor.server, joulefloor.pages\n"
        "heavy = 'asyncio ssl http http.server email logging json concurrent hashlib bcrypt "
        "_ssl _hashlib html urllib.parse prometheus_client encodings.idna'.split()\n"
        "from joulefloor.listen import listen\n"
        "listen('localhost:0').close()\n"
        "listen(':0').close()\n"
        "print(*[name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.stdout.strip() == ""


def test_running_out_of_descriptors_pauses_and_recovers() -> None:
    program = (
        "import http.client, resource, socket, sys, threading\n"
        "from joulefloor.clock import SystemClock\n"
        "from joulefloor.exchange import Limits\n"
        "from joulefloor.http1 import text\n"
        "from joulefloor.log import Log\n"
        "from joulefloor.server import Server\n"
        "clock = SystemClock()\n"
        "routes = {'/': lambda request: text(200, 'ok')}\n"
        "more = {'log': Log(clock), 'limits': Limits(linger_s=0.05)}\n"
        "server = Server(['127.0.0.1:0'], routes, clock=clock, **more)\n"
        "port = int(server.urls[0].rpartition(':')[2])\n"
        "thread = threading.Thread(target=server.run)\n"
        "thread.start()\n"
        "first = http.client.HTTPConnection('127.0.0.1', port, timeout=60)\n"
        "first.request('GET', '/')\n"
        "first.getresponse().read()\n"
        "waiting = socket.socket()\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))\n"
        "waiting.settimeout(0.3)\n"
        "waiting.connect(('127.0.0.1', port))\n"
        "waiting.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')\n"
        "try:\n"
        "    print(waiting.recv(100))\n"
        "except TimeoutError:\n"
        "    print('paused')\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))\n"
        "waiting.settimeout(60)\n"
        "print(waiting.recv(12).decode())\n"
        "server.stop()\n"
        "thread.join(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.stdout == "paused\nHTTP/1.1 200\n"
    assert done.stderr.count("accept_failed") == 1


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.sampled_from(PIECES),
            max_size=20,
        ).map(b"".join),
    )
)
def test_any_bytes_give_an_http_answer_or_a_close(running: Running, data: bytes) -> None:
    with running.connect() as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        answer = read_all(sock)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert running.works()


@given(st.binary(max_size=200))
def test_any_head_gives_a_request_or_a_refusal(head: bytes) -> None:
    try:
        status = 200 if parse_head(head).path.isascii() else 0
    except BadRequest as refused:
        status = refused.status
    assert status in {200, 400, 413, 505}


@given(st.integers(0, 32_503_679_999))
def test_dates_are_those_of_the_standard(unix_s: int) -> None:
    assert http_date(unix_s) == email.utils.formatdate(unix_s, usegmt=True)


@pytest.mark.parametrize(
    ("written", "address"),
    [
        (":13806", Address("", 13806)),
        ("0.0.0.0:1", Address("0.0.0.0", 1)),  # noqa: S104  # only parsed
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:13806", Address("::1", 13806)),
        ("[::]:65535", Address("::", 65535)),
    ],
)
def test_addresses_are_read(written: str, address: Address) -> None:
    assert parse_address(written) == address


@pytest.mark.parametrize(
    ("written", "fix"),
    [
        ("13806", "write --web.listen-address=:13806"),
        ("localhost", "write --web.listen-address=localhost:13806"),
        (":70000", "write 0 to 65535"),
        (":http", "write 0 to 65535"),
        ("::1:13806", "[::1]:13806"),
        ("", "the port is missing"),
        ("two words:1", "not a host name"),
        ("h\u00f6st:1", "not a host name"),
    ],
)
def test_a_bad_address_names_its_fix(written: str, fix: str) -> None:
    with pytest.raises(StartError) as error:
        parse_address(written)
    assert fix in str(error.value)
    assert f"--web.listen-address={written}" in str(error.value)


def start(address: str) -> Server:
    clock = SystemClock()
    return Server([address], ROUTES, clock=clock, log=Log(clock))


def test_a_port_in_use_is_named_with_the_fix(running: Running) -> None:
    with pytest.raises(StartError, match=f"127.0.0.1:{running.port}: the port is already in use"):
        start(f"127.0.0.1:{running.port}")


def test_a_second_bad_address_leaves_nothing_open(running: Running) -> None:
    before = sockets()
    clock = SystemClock()
    with pytest.raises(StartError):
        Server(["127.0.0.1:0", f"127.0.0.1:{running.port}"], ROUTES, clock=clock, log=Log(clock))
    # Other threads may have one for a moment.
    assert eventually(lambda: sockets() <= before, within_s=PATIENCE_S)


def sockets() -> set[str]:
    """The sockets that this process has open, each with a number of its own."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(str(entry.readlink()))
    return {name for name in found if name.startswith("socket:")}


def test_an_address_of_another_machine_is_named_with_the_fix() -> None:
    with pytest.raises(StartError, match="no interface of this machine has that address"):
        start("192.0.2.1:0")


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(StartError, match="no such host"):
        start("no-such-host.invalid:13806")


def test_a_privileged_port_is_refused_with_the_fix() -> None:
    floor = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if floor <= 80:
        pytest.skip("every port may be used here by everybody")
    program = (
        "import os\n"
        "from joulefloor.listen import listen\n"
        "from joulefloor.errors import StartError\n"
        "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "try: listen('127.0.0.1:80')\n"
        "except StartError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert "choose a port from" in done.stdout


@pytest.mark.parametrize(
    ("family", "address", "bound"),
    [
        (socket.AF_INET, "127.0.0.1:0", "http://127.0.0.1"),
        (socket.AF_INET, "0.0.0.0:0", "http://0.0.0.0"),
        (socket.AF_INET6, "[::1]:0", "http://[::1]"),
        (socket.AF_INET6, "[::]:0", "http://[::]"),
        (socket.AF_INET6, ":0", "http://[::]"),
    ],
)
def test_it_says_the_addresses_that_it_listens_on(
    family: socket.AddressFamily, address: str, bound: str
) -> None:
    if family == socket.AF_INET6 and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    server = start(address)
    (url,) = server.urls
    server.close()
    said, _, port = url.rpartition(":")
    assert said == bound
    assert int(port) > 0


@pytest.mark.parametrize("address", ["[::1]:0", ":0", "localhost:0"])
def test_other_kinds_of_address_are_served(address: str) -> None:
    server = start(address)
    thread = threading.Thread(target=server.run)
    thread.start()
    place = server.urls[0].removeprefix("http://")
    with closing(http.client.HTTPConnection(place, timeout=PATIENCE_S)) as client:
        client.request("GET", "/metrics")
        assert client.getresponse().status == 200
    server.stop()
    thread.join(PATIENCE_S)
