"""TLS for the server, non-blocking, with certificates that may be renewed while it runs.

Imported only when a web configuration asks for it: OpenSSL weighs several MiB.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from joulefloor.connection import CHUNK_BYTES, Want
from joulefloor.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pathlib import Path

    from joulefloor.log import Log

VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
CIPHERS = {
    f"TLS_{exchange}_WITH_{name}": f"{openssl}-{suffix}"
    for exchange, openssl in (("ECDHE_RSA", "ECDHE-RSA"), ("ECDHE_ECDSA", "ECDHE-ECDSA"))
    for name, suffix in (
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
    )
}
"""Names of the Go library, which the file format uses, to names of OpenSSL."""
CIPHERS_OF_TLS13 = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
)
"""Accepted in the list and, as in the Go library, always on."""
_PLAIN_HTTP = b"HTTP/1.0 400 Bad Request\r\n\r\nthis is an https server: write https:// instead\n"
_SAN_KINDS = {"DNS", "IP Address", "email", "URI"}


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How to encrypt, with paths resolved.

    `verify`: whether client certificates are checked; `required`: whether one must be shown;
    `allowed_sans`: names of which it must carry one, any if empty.
    """

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    verify: bool = False
    required: bool = False
    allowed_sans: tuple[str, ...] = ()
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    ciphers: tuple[str, ...] = ()
    prefer_server_ciphers: bool = True
    curve: str = ""


def build_context(settings: TlsSettings) -> ssl.SSLContext:
    """Load certificate, key and authority.

    Raises:
        ConfigError: a file cannot be read, is no certificate or key, or key and certificate do not
            belong together; `where` of each problem is the file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[settings.min_version]
    context.maximum_version = VERSIONS[settings.max_version]
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not settings.prefer_server_ciphers:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    # A resumed session would go on with a client certificate that has expired since.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    problems = [*_load_pair(context, settings), *_load_authority(context, settings)]
    if settings.ciphers:
        context.set_ciphers(":".join(settings.ciphers))
    if settings.curve:
        context.set_ecdh_curve(settings.curve)
    if problems:
        raise ConfigError(tuple(problems))
    return context


def _load_pair(context: ssl.SSLContext, settings: TlsSettings) -> list[Problem]:
    problems = [
        problem
        for path, noun in ((settings.cert_file, "CERTIFICATE"), (settings.key_file, "PRIVATE KEY"))
        if (problem := _look(path, noun)) is not None
    ]
    if problems:
        return problems
    try:
        context.load_cert_chain(settings.cert_file, settings.key_file, password=_no_password)
    except _EncryptedKeyError:
        return [Problem(str(settings.key_file), "the key is encrypted; give one without password")]
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            what = f"does not belong to the certificate {settings.cert_file}; make the pair anew"
            return [Problem(str(settings.key_file), what)]
        return _find_broken(settings, error)
    return []


def _find_broken(settings: TlsSettings, error: ssl.SSLError) -> list[Problem]:
    """Say which file of a pair that OpenSSL refuses is the bad one: it does not tell."""
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    why = error.reason or "it cannot be decoded"
    try:
        probe.load_verify_locations(settings.cert_file)
    except ssl.SSLError:
        return [Problem(str(settings.cert_file), f"is not a usable certificate ({why})")]
    return [Problem(str(settings.key_file), f"is not a usable private key ({why})")]


def _load_authority(context: ssl.SSLContext, settings: TlsSettings) -> list[Problem]:
    path = settings.client_ca_file
    if not settings.verify or path is None:
        return []
    problem = _look(path, "CERTIFICATE")
    if problem is not None:
        return [problem]
    context.verify_mode = ssl.CERT_REQUIRED if settings.required else ssl.CERT_OPTIONAL
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        why = error.reason or "it cannot be decoded"
        return [Problem(str(path), f"is not a usable certificate ({why})")]
    return []


def _look(path: Path, noun: str) -> Problem | None:
    """Read the file once for ourselves: OpenSSL's messages do not name it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return Problem(str(path), f"cannot be read: {error.strerror}")
    if f"{noun}-----".encode() not in data:
        return Problem(str(path), f"holds no PEM block BEGIN {noun}; is it another kind of file?")
    return None


class _EncryptedKeyError(Exception):
    """OpenSSL asked for a password, which would stop the daemon at a prompt."""


def _no_password() -> str:
    raise _EncryptedKeyError


class Tls:
    """Encrypts connections; looks for renewed files whenever somebody connects."""

    def __init__(self, settings: TlsSettings, log: Log) -> None:
        """Load everything. Raises ConfigError."""
        self._settings = settings
        self._log = log
        self._files = [
            path
            for path in (settings.cert_file, settings.key_file, settings.client_ca_file)
            if path is not None
        ]
        self._stamps = self._stamp()
        self._context = build_context(settings)

    def wrap(self, client: socket.socket) -> TlsWire:
        """Take over a connected non-blocking socket. Raises OSError."""
        stamps = self._stamp()
        if stamps != self._stamps:
            self._stamps = stamps
            self._renew()
        encrypted = self._context.wrap_socket(
            client, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        return TlsWire(encrypted, self._settings.allowed_sans)

    def _renew(self) -> None:
        try:
            self._context = build_context(self._settings)
        except ConfigError as error:
            kept = "the old certificate stays in use"
            self._log.error("certificate_refused", error=str(error), hint=kept)
        else:
            self._log.info("certificate_renewed", file=self._settings.cert_file)

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Identity of every file: a renewed one differs, a missing one is zeros."""
        stamps = []
        for path in self._files:
            try:
                stat = path.stat()
            except OSError:
                stamps.append((0, 0, 0))
            else:
                stamps.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(stamps)


class TlsWire:
    """An encrypted client."""

    def __init__(self, client: ssl.SSLSocket, allowed_sans: tuple[str, ...]) -> None:
        """Take over the socket before its handshake."""
        self._client = client
        self._allowed_sans = allowed_sans

    def fileno(self) -> int:
        """Descriptor to watch."""
        return self._client.fileno()

    def handshake(self) -> Want:
        """Go on with the handshake, then look at the names of the client's certificate."""
        try:
            self._client.do_handshake()
        except ssl.SSLWantReadError:
            return Want.READABLE
        except ssl.SSLWantWriteError:
            return Want.WRITABLE
        except ssl.SSLError as error:
            self._part(plain_http=error.reason == "HTTP_REQUEST")
            raise
        if self._allowed_sans and not self._names() & set(self._allowed_sans):
            raise ConnectionRefusedError
        return Want.NOTHING

    def _part(self, *, plain_http: bool) -> None:
        """Let the client see why: data left unread would reset the connection first."""
        with suppress(OSError):
            if plain_http:
                socket.socket.send(self._client, _PLAIN_HTTP)
            socket.socket.recv(self._client, CHUNK_BYTES)

    def _names(self) -> set[str]:
        certificate = self._client.getpeercert() or {}
        entries = certificate.get("subjectAltName", ())
        return {
            str(entry[1])
            for entry in entries
            if isinstance(entry, tuple) and entry[0] in _SAN_KINDS
        }

    def receive(self) -> bytes | None:
        """One TLS record."""
        try:
            return self._client.recv(CHUNK_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def send(self, head: bytes | memoryview, body: memoryview) -> int | None:
        """Head first, then body: OpenSSL takes one buffer at a time."""
        try:
            return self._client.send(head or body)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def finish(self) -> None:
        """Say goodbye as TLS does, then close the sending half."""
        with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._client.unwrap()
        socket.socket.shutdown(self._client, socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket."""
        self._client.close()
