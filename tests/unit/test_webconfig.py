"""The web configuration file, with real TLS clients and real bcrypt hashes."""

from __future__ import annotations

import base64
import http.client
import io
import shutil
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import bcrypt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from joulefloor import webconfig
from joulefloor.auth import Passwords
from joulefloor.clock import SystemClock
from joulefloor.errors import ConfigError
from joulefloor.exchange import Checking, Limits
from joulefloor.http1 import Request, Response
from joulefloor.log import Log
from joulefloor.tls import CIPHERS
from joulefloor.units import Seconds
from joulefloor.webconfig import load_web_config
from stack.query import eventually
from tests.patience import PATIENCE_S
from tests.unit.authority import Authority, Pair, pem_of
from tests.unit.test_server import GET, LARGE, read_all, serving

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.unit.test_server import Running

KEYS = [
    *("tls_server_config", "http_server_config", "basic_auth_users", "headers", "http2"),
    *("cert_file", "key_file", "client_allowed_sans", "cipher_suites", "client_auth_type"),
]
QUICK = Limits(header_s=Seconds(0.2))
"""For those that never complete anything: on a loaded machine others may be too slow for it."""
PATIENT = Limits(header_s=Seconds(PATIENCE_S), check_s=Seconds(PATIENCE_S))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server_pair(authority: Authority) -> Pair:
    return authority.issue("server")


@pytest.fixture(scope="module")
def client_pair(authority: Authority) -> Pair:
    return authority.issue("client", "prometheus.example")


@pytest.fixture
def folder(tmp_path: Path, authority: Authority, server_pair: Pair) -> Path:
    """A folder with server.crt, server.key and ca.pem, where the configuration is written."""
    shutil.copy(server_pair.certificate, tmp_path / "server.crt")
    shutil.copy(server_pair.key, tmp_path / "server.key")
    shutil.copy(authority.file, tmp_path / "ca.pem")
    return tmp_path


TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
MUTUAL = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"


def write(folder: Path, content: str) -> Path:
    path = folder / "web.yml"
    path.write_text(content, encoding="utf-8")
    return path


def serve(folder: Path, content: str, limits: Limits = PATIENT) -> AbstractContextManager[Running]:
    config = load_web_config(write(folder, content))
    log = Log(SystemClock(), stream=io.StringIO())
    return serving(limits, tls=config.encryption(log), gate=config.gate())


def client_context(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


def fetch(
    running: Running, context: ssl.SSLContext | None = None, path: str = "/metrics", user: str = ""
) -> tuple[int, bytes]:
    headers = {}
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    client: http.client.HTTPConnection
    if context is None:
        client = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE_S)
    else:
        client = http.client.HTTPSConnection(
            "127.0.0.1", running.port, timeout=PATIENCE_S, context=context
        )
    with closing(client):
        client.request("GET", path, headers=headers)
        answer = client.getresponse()
        return answer.status, answer.read()


# -- TLS ------------------------------------------------------------------------------------------


def test_tls_serves_small_and_large_answers(folder: Path, authority: Authority) -> None:
    context = client_context(authority)
    with serve(folder, TLS) as running:
        assert running.server.urls[0].startswith("https://")
        assert fetch(running, context) == (200, b"joules 1\n")
        assert fetch(running, context, "/large") == (200, LARGE)


def test_tls_connections_stay_open_for_the_next_scrape(folder: Path, authority: Authority) -> None:
    with (
        serve(folder, TLS) as running,
        closing(
            http.client.HTTPSConnection(
                "127.0.0.1", running.port, timeout=PATIENCE_S, context=client_context(authority)
            )
        ) as client,
    ):
        for _ in range(10):
            client.request("GET", "/metrics")
            assert client.getresponse().read() == b"joules 1\n"
        client.request("GET", "/large", headers={"Connection": "close"})
        assert client.getresponse().read() == LARGE


def test_curl_trusts_and_reads_the_certificate(folder: Path, authority: Authority) -> None:
    with serve(folder, TLS) as running:
        url = f"https://localhost:{running.port}/metrics"
        command = ["curl", "-sS", "--noproxy", "*", "--cacert", str(authority.file), url]
        done = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_S)
    assert done.stdout == b"joules 1\n"


def test_fifty_parallel_tls_scrapes_are_served(folder: Path, authority: Authority) -> None:
    context = client_context(authority)
    with serve(folder, TLS) as running, ThreadPoolExecutor(50) as pool:
        answers = set(pool.map(lambda _: fetch(running, context), range(50)))
    assert answers == {(200, b"joules 1\n")}


def test_pipelined_tls_requests_are_all_answered(folder: Path, authority: Authority) -> None:
    with (
        serve(folder, TLS) as running,
        client_context(authority).wrap_socket(running.connect(), server_hostname="localhost") as s,
    ):
        s.sendall(GET * 50 + b"GET /metrics HTTP/1.0\r\n\r\n")
        assert read_all(s).count(b"joules 1\n") == 51


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02", b"\x16\x03\x01\x02\x00" + b"\0" * 600])
def test_a_client_that_never_completes_its_handshake_is_closed_and_harms_nobody(
    folder: Path, authority: Authority, sent: bytes
) -> None:
    def others_are_served() -> bool:
        with suppress(OSError, http.client.HTTPException):
            return fetch(running, client_context(authority)) == (200, b"joules 1\n")
        return False

    with serve(folder, TLS, QUICK) as running, running.connect() as sock:
        sock.sendall(sent)
        assert eventually(others_are_served, within_s=PATIENCE_S)
        read_all(sock)
        assert eventually(others_are_served, within_s=PATIENCE_S)


def test_plain_http_to_a_tls_port_is_told_so(folder: Path) -> None:
    with serve(folder, TLS) as running:
        assert b"this is an https server" in running.exchange(GET)


def test_a_reader_that_never_reads_over_tls_delays_nobody(
    folder: Path, authority: Authority
) -> None:
    context = client_context(authority)
    with (
        serve(folder, TLS) as running,
        context.wrap_socket(running.connect(), server_hostname="localhost") as slow,
    ):
        slow.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        for _ in range(5):
            assert fetch(running, context) == (200, b"joules 1\n")


# -- client certificates --------------------------------------------------------------------------


def refused(running: Running, context: ssl.SSLContext) -> bool:
    try:
        fetch(running, context)
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        return True
    return False


def test_a_required_client_certificate_lets_only_its_owner_in(
    folder: Path, authority: Authority, client_pair: Pair, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"), "stranger").issue("eve")
    with serve(folder, MUTUAL) as running:
        assert refused(running, client_context(authority))
        assert refused(running, client_context(authority, stranger))
        assert fetch(running, client_context(authority, client_pair)) == (200, b"joules 1\n")


@pytest.mark.parametrize(("name", "welcome"), [("prometheus.example", True), ("other", False)])
def test_only_listed_names_may_come_in(
    folder: Path, authority: Authority, client_pair: Pair, name: str, welcome: bool
) -> None:
    content = MUTUAL + f"  client_allowed_sans: [{name}, 192.0.2.9]\n"
    with serve(folder, content) as running:
        assert refused(running, client_context(authority, client_pair)) is not welcome


def test_a_certificate_that_is_checked_if_given_may_be_left_out(
    folder: Path, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("other"), "other").issue("eve")
    content = MUTUAL.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven")
    with serve(folder, content) as running:
        assert not refused(running, client_context(authority))
        assert refused(running, client_context(authority, stranger))


# -- versions and ciphers -------------------------------------------------------------------------


def test_versions_bound_what_is_spoken(folder: Path, authority: Authority) -> None:
    with serve(folder, TLS + "  min_version: TLS13\n") as running:
        old = client_context(authority)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert refused(running, old)
        assert not refused(running, client_context(authority))


def test_listed_ciphers_are_those_in_use(folder: Path, authority: Authority) -> None:
    suite = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    content = TLS + f"  max_version: TLS12\n  cipher_suites: [{suite}]\n"
    content += "  curve_preferences: [CurveP256]\n  prefer_server_cipher_suites: false\n"
    with (
        serve(folder, content) as running,
        client_context(authority).wrap_socket(running.connect(), server_hostname="localhost") as s,
    ):
        cipher = s.cipher()
    assert cipher is not None
    assert cipher[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"


@pytest.mark.parametrize("name", CIPHERS.values())
def test_every_known_suite_is_one_of_openssl(name: str) -> None:
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(name)


# -- renewal --------------------------------------------------------------------------------------


def certificate_of(running: Running, authority: Authority) -> bytes:
    context = client_context(authority)
    with context.wrap_socket(running.connect(), server_hostname="localhost") as sock:
        certificate = sock.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


def test_a_renewed_certificate_is_used_and_a_broken_one_is_not(
    folder: Path, authority: Authority
) -> None:
    config = load_web_config(write(folder, TLS))
    log = io.StringIO()
    with serving(Limits(), tls=config.encryption(Log(SystemClock(), stream=log))) as running:
        first = certificate_of(running, authority)
        renewed = authority.issue("renewed")
        renewed.certificate.replace(folder / "server.crt")
        renewed.key.replace(folder / "server.key")
        second = certificate_of(running, authority)
        assert second != first
        (folder / "server.crt").write_text("garbage")
        assert certificate_of(running, authority) == second
        assert certificate_of(running, authority) == second
        (folder / "server.crt").unlink()
        assert certificate_of(running, authority) == second
    assert log.getvalue().count("certificate_renewed") == 1
    assert log.getvalue().count("certificate_refused") == 2
    assert "holds no PEM block" in log.getvalue()


# -- problems -------------------------------------------------------------------------------------


def problems(folder: Path, content: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_web_config(write(folder, content))
    return [str(problem).removeprefix(f"{folder}/") for problem in error.value.problems]


def test_every_problem_is_told_at_once_with_its_line(folder: Path) -> None:
    content = (
        "tls_server_confg: {}\n"
        "tls_server_config:\n"
        "  cert_file: missing.crt\n"
        "  key_file: server.key\n"
        "  client_auth: NoClientCert\n"
        "http_server_config:\n"
        "  http2: maybe\n"
        "  headers:\n"
        "    X-Frame-Option: deny\n"
        "    X-Content-Type-Options: sniff\n"
        "basic_auth_users:\n"
        "  alice: secret-in-plain-text\n"
        "rate_limit: {interval: 1s}\n"
    )
    found = problems(folder, content)
    assert [problem.split(" ")[0] for problem in found] == [
        "web.yml:1:",
        "web.yml:13:",
        "web.yml:5:",
        "web.yml:3:",
        "web.yml:7:",
        "web.yml:9:",
        "web.yml:10:",
        "web.yml:12:",
    ]
    joined = "\n".join(found)
    assert "did you mean 'tls_server_config'" in joined
    assert "missing.crt: cannot be read: No such file or directory" in joined
    assert "did you mean 'X-Frame-Options'" in joined
    assert "htpasswd" in joined
    assert "secret-in-plain-text" not in joined


def encrypted_key() -> bytes:
    return pem_of(ec.generate_private_key(ec.SECP256R1()), b"secret")


@pytest.mark.parametrize(
    ("file", "content", "line", "words"),
    [
        ("server.crt", b"", 2, "holds no PEM block BEGIN CERTIFICATE"),
        ("server.crt", b"\x00\xff\x30\x82" * 99, 2, "holds no PEM block"),
        (
            "server.crt",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            2,
            "is not a usable certificate",
        ),
        ("server.key", b"hello", 3, "holds no PEM block BEGIN PRIVATE KEY"),
        (
            "server.key",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            3,
            "is not a usable private key",
        ),
        (
            "server.key",
            pem_of(ec.generate_private_key(ec.SECP256R1())),
            3,
            "does not belong to the certificate",
        ),
        ("server.key", encrypted_key(), 3, "the key is encrypted"),
        ("ca.pem", b"none", 5, "holds no PEM block BEGIN CERTIFICATE"),
    ],
)
def test_a_bad_file_is_a_problem_of_the_line_that_names_it(
    folder: Path, file: str, content: bytes, line: int, words: str
) -> None:
    (folder / file).write_bytes(content)
    (found,) = problems(folder, MUTUAL)
    assert found.startswith(f"web.yml:{line}: tls_server_config.")
    assert words in found
    assert file in found


def test_a_directory_in_place_of_a_certificate_is_named(folder: Path) -> None:
    (folder / "server.crt").unlink()
    (folder / "server.crt").mkdir()
    (found,) = problems(folder, TLS)
    assert "cannot be read: Is a directory" in found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("tls_server_config:\n  cert_file: server.crt\n", "key_file: is missing"),
        ("tls_server_config:\n  key_file: server.key\n", "cert_file: is missing"),
        (TLS + "  client_auth_type: Always\n", "unknown policy 'Always'"),
        (TLS + "  client_auth_type: RequireAnyClientCert\n", "lets any self-made certificate in"),
        (TLS + "  client_auth_type: RequireAndVerifyClientCert\n", "client_ca_file: is missing"),
        (TLS + "  client_ca_file: ca.pem\n", "but no client_auth_type"),
        (TLS + "  client_allowed_sans: [a]\n", "needs client_auth_type"),
        (TLS + "  min_version: TLS14\n", "unknown version; known: TLS10"),
        (TLS + "  min_version: TLS13\n  max_version: TLS12\n", "is above max_version TLS12"),
        (TLS + "  cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]\n", "unknown or insecure suite"),
        (TLS + "  curve_preferences: [P256]\n", "unknown curve; known: CurveP256"),
        (TLS + "  curve_preferences: [CurveP256, X25519]\n", "takes one curve"),
        ("tls_server_config:\n  cert: x\n  key: y\n", "is not taken inline"),
        ("http_server_config:\n  headers: {X-Powered-By: us}\n", "unknown key"),
        ('http_server_config:\n  headers: {X-XSS-Protection: "a\\nb"}\n', "holds characters"),
        ("basic_auth_users:\n  'a:b': x\n", "cannot hold a colon"),
        ("basic_auth_users: [alice]\n", "expected keys and values, found a sequence"),
        ("- a\n", "expected keys and values"),
        ("", "is empty"),
        ("a: [", "is not YAML"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_remedy(
    folder: Path, content: str, words: str
) -> None:
    assert any(words in problem for problem in problems(folder, content))


def test_a_missing_file_and_binary_garbage_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.yml: cannot be read"):
        load_web_config(tmp_path / "nope.yml")
    (tmp_path / "web.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not text"):
        load_web_config(tmp_path / "web.yml")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.sampled_from(["cert_file", "server.crt", "1", "true", "~", "deny", "TLS12"]),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
            st.dictionaries(
                st.sampled_from(KEYS),
                inner,
                max_size=4,
            ).map(lambda d: "{" + ", ".join(f"{key}: {value}" for key, value in d.items()) + "}"),
        ),
    )
)
def test_any_yaml_is_a_configuration_or_a_list_of_problems(folder: Path, content: str) -> None:
    try:
        load_web_config(write(folder, content))
    except ConfigError as error:
        assert error.problems  # noqa: PT017  # either outcome is right


def test_no_file_means_plain_http_for_everybody() -> None:
    config = load_web_config(None)
    assert config.encryption(Log(SystemClock())) is None
    assert config.gate() is None


# -- headers --------------------------------------------------------------------------------------


def test_listed_headers_go_with_every_answer(folder: Path) -> None:
    content = (
        "http_server_config:\n"
        "  http2: false\n"
        "  headers:\n"
        "    X-Frame-Options: deny\n"
        "    X-XSS-Protection: 0\n"
        '    Strict-Transport-Security: ""\n'
        "    Content-Security-Policy: default-src 'self'\n"
    )
    assert load_web_config(write(folder, content)).headers == {
        "X-Frame-Options": "deny",
        "X-XSS-Protection": "0",
        "Content-Security-Policy": "default-src 'self'",
    }


# -- passwords ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def users() -> str:
    """A configuration with alice (cost 4) and bob, as htpasswd writes them."""
    alice = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()
    bob = bcrypt.hashpw("p\u00e4ss".encode(), bcrypt.gensalt(5)).decode().replace("$2b$", "$2y$")
    return f"basic_auth_users:\n  alice: {alice}\n  bob: {bob}\n"


def test_only_known_users_with_their_password_come_in(folder: Path, users: str) -> None:
    with serve(folder, users) as running:
        for _ in range(2):
            assert fetch(running, user="alice:open sesame") == (200, b"joules 1\n")
            assert fetch(running, user="bob:p\u00e4ss") == (200, b"joules 1\n")
            for wrong in ("alice:wrong", "bob:open sesame", "eve:open sesame", "alice:", ":"):
                assert fetch(running, user=wrong)[0] == 401
        assert fetch(running)[0] == 401
        assert fetch(running, path="/nope")[0] == 401


def test_a_refusal_asks_for_basic_authentication(folder: Path, users: str) -> None:
    with serve(folder, users) as running, running.client() as client:
        for header in ("", "Bearer x", "Basic", "Basic !!!", "Basic YWxpY2U=", "basic Og=="):
            client.request("GET", "/metrics", headers={"Authorization": header})
            answer = client.getresponse()
            answer.read()
            assert answer.status == 401
            assert str(answer.getheader("WWW-Authenticate")).startswith("Basic realm=")


def test_curl_and_passwords_over_tls(folder: Path, authority: Authority, users: str) -> None:
    with serve(folder, TLS + users) as running:
        url = f"https://localhost:{running.port}/metrics"
        command = ["curl", "-sS", "--noproxy", "*", "--cacert", str(authority.file)]
        command += ["-u", "alice:open sesame", url, url]
        done = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_S)
    assert done.stdout == b"joules 1\n" * 2


class Slow:
    """A hash whose check lasts until it is released; the real bcrypt takes its place after."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.checked: list[bytes] = []
        self._check = bcrypt.checkpw
        monkeypatch.setattr(bcrypt, "checkpw", self.check)

    def check(self, password: bytes, hashed: bytes) -> bool:
        self.checked.append(hashed)
        assert self.go.wait(PATIENCE_S)
        return self._check(password, hashed)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    slow = Slow(monkeypatch)
    yield slow
    slow.go.set()


def test_checking_a_password_delays_no_known_user(folder: Path, users: str, slow: Slow) -> None:
    with serve(folder, users) as running, ThreadPoolExecutor(1) as pool:
        slow.go.set()
        assert fetch(running, user="alice:open sesame")[0] == 200
        slow.go.clear()
        guess = pool.submit(fetch, running, user="bob:guess")
        for _ in range(20):
            assert fetch(running, user="alice:open sesame")[0] == 200
        slow.go.set()
        assert guess.result(PATIENCE_S)[0] == 401


def test_a_flood_of_guesses_is_bounded(folder: Path, users: str, slow: Slow) -> None:
    with serve(folder, users) as running:
        guess = b"GET / HTTP/1.0\r\nAuthorization: Basic %s\r\n\r\n" % base64.b64encode(b"a:b")
        socks: list[socket.socket] = []
        for _ in range(40):
            socks.append(running.connect())
            socks[-1].sendall(guess)
        last = socks[-1].recv(4096)
        assert last.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After" in last
        slow.go.set()
        assert socks[0].recv(4096).startswith(b"HTTP/1.1 401 ")
        for sock in socks:
            sock.close()


def test_a_check_that_takes_too_long_is_given_up(folder: Path, users: str, slow: Slow) -> None:
    with serve(folder, users, Limits(check_s=Seconds(0.1))) as running:
        assert fetch(running, user="alice:open sesame")[0] == 503
        slow.go.set()


def test_a_client_may_vanish_while_its_password_is_checked(
    folder: Path, users: str, slow: Slow
) -> None:
    with serve(folder, users, PATIENT) as running:
        sock = running.connect()
        header = base64.b64encode(b"alice:x")
        sock.sendall(b"GET / HTTP/1.0\r\nAuthorization: Basic %s\r\n\r\n" % header)
        sock.close()
        slow.go.set()
        assert fetch(running, user="alice:open sesame")[0] == 200


def verdict(gate: Passwords, user: str) -> Response | None:
    """Ask a gate and wait for what it says."""
    said: list[Response | None] = []
    done = threading.Event()

    def later(refusal: Response | None) -> None:
        said.append(refusal)
        done.set()

    header = "Basic " + base64.b64encode(user.encode()).decode()
    request = Request("GET", "/", "", {"authorization": header})
    try:
        return gate.ask(request, later)
    except Checking:
        assert done.wait(PATIENCE_S)
        return said[0]


def test_an_unknown_user_costs_what_the_dearest_known_one_does(slow: Slow) -> None:
    slow.go.set()
    dear, cheap = (bcrypt.hashpw(b"x", bcrypt.gensalt(cost)) for cost in (6, 4))
    gate = Passwords({"alice": cheap, "bob": dear})
    assert verdict(gate, "nobody:x") is not None
    assert verdict(gate, "bob:y") is not None
    assert [hashed[:7] for hashed in slow.checked] == [b"$2b$06$"] * 2
    gate.close()


def test_a_right_password_is_checked_once_and_a_wrong_one_each_time(slow: Slow) -> None:
    slow.go.set()
    gate = Passwords({"alice": bcrypt.hashpw(b"x", bcrypt.gensalt(4))})
    for _ in range(3):
        assert verdict(gate, "alice:x") is None
    assert len(slow.checked) == 1
    for _ in range(3):
        assert verdict(gate, "alice:y") is not None
    assert len(slow.checked) == 4
    gate.close()


def test_a_password_longer_than_bcrypt_reads_is_cut_as_htpasswd_cuts_it() -> None:
    gate = Passwords({"alice": bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4))})
    assert verdict(gate, "alice:" + "x" * 100) is None
    assert verdict(gate, "alice:" + "x" * 71) is not None
    assert verdict(gate, "alice:\0") is not None
    gate.close()


def test_users_without_bcrypt_installed_name_the_extra(
    folder: Path, users: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing: Callable[[str], None] = lambda _: None  # noqa: E731  # a stand-in for find_spec
    monkeypatch.setattr(webconfig, "find_spec", missing)
    (found,) = problems(folder, users)
    assert "pip install 'joulefloor[auth]'" in found
    assert found.startswith("web.yml:2:")
