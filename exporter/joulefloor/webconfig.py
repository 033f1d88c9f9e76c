"""The file after --web.config.file: TLS, client certificates, passwords and extra headers.

Its format is that of the Prometheus exporter-toolkit, so that one file serves every exporter of a
site. What it asks for and this server does not do is refused, never ignored where it would leave
the server more open than the file says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

from joulefloor.config import load_yaml
from joulefloor.decode import Decoder
from joulefloor.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from joulefloor.decode import Node
    from joulefloor.exchange import Gate
    from joulefloor.log import Log
    from joulefloor.server import Tls
    from joulefloor.tls import TlsSettings

_SECTIONS = ["tls_server_config", "http_server_config", "basic_auth_users"]
_BCRYPT = re.compile(r"\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_HEADERS: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""Headers the format allows, and their values where it names them."""
_REFUSED = {
    "rate_limit": "there is no rate limit: a scrape costs less than refusing it; remove it",
    "cert": "is not taken inline; write it to a file and name that as cert_file",
    "key": "is not taken inline; write it to a file and name that as key_file",
    "client_ca": "is not taken inline; write it to a file and name that as client_ca_file",
}
_CLIENTS = {
    # name: (a certificate is verified, one must be shown)
    "NoClientCert": (False, False),
    "RequestClientCert": (False, False),
    "VerifyClientCertIfGiven": (True, False),
    "RequireAndVerifyClientCert": (True, True),
}
_UNVERIFIED = ("RequireAnyClientCert", "RequireClientCert")
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1"}
_CURVES["X25519"] = "X25519"


@dataclass(frozen=True, slots=True)
class _TlsSection:
    """Keys of `tls_server_config`, as written."""

    cert_file: str = ""
    key_file: str = ""
    client_auth_type: str = ""
    client_ca_file: str = ""
    client_allowed_sans: tuple[str, ...] = ()
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What the file asks for; the default is plain HTTP for everybody."""

    tls: TlsSettings | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, bytes] = field(default_factory=dict)

    def encryption(self, log: Log) -> Tls | None:
        """TLS for the server, None if the file asks for none. Raises ConfigError."""
        if self.tls is None:
            return None
        from joulefloor.tls import Tls as Encryption  # noqa: PLC0415  # OpenSSL only when asked for

        return Encryption(self.tls, log)

    def gate(self) -> Gate | None:
        """Password check for the server, None without users."""
        if not self.users:
            return None
        from joulefloor.auth import Passwords  # noqa: PLC0415  # bcrypt only when asked for

        return Passwords(self.users)


def load_web_config(path: Path | None) -> WebConfig:
    """Read the file and everything it names; None gives the default.

    Raises:
        ConfigError: every problem of the file, each with its line.
    """
    if path is None:
        return WebConfig()
    node = load_yaml(path)
    decoder = Decoder(str(path))
    entries = decoder.entries(node, "")
    for name, (key, _) in entries.items():
        if name in _REFUSED:
            decoder.problem(key, name, _REFUSED[name])
        elif name not in _SECTIONS:
            decoder.unknown(key, "", _SECTIONS)
    tls = _tls(decoder, entries, path.parent)
    headers = _headers(decoder, entries)
    users = _users(decoder, entries)
    if decoder.problems:
        raise ConfigError(tuple(dict.fromkeys(decoder.problems)))
    return WebConfig(tls, headers, users)


class _Section:
    """A decoded section that knows the line of each of its keys."""

    def __init__(self, decoder: Decoder, path: str, node: Node) -> None:
        self.decoder = decoder
        self.path = path
        self.node = node
        self.entries = decoder.entries(node, path)

    def problem(self, key: str, what: str) -> None:
        node = self.entries[key][1] if key in self.entries else self.node
        self.decoder.problem(node, f"{self.path}.{key}", what)


def _tls(
    decoder: Decoder, entries: Mapping[str, tuple[Node, Node]], folder: Path
) -> TlsSettings | None:
    if "tls_server_config" not in entries:
        return None
    section = _Section(decoder, "tls_server_config", entries["tls_server_config"][1])
    if not section.entries:
        return None
    inline = tuple(name for name in ("cert", "key", "client_ca") if name in section.entries)
    for name in inline:
        section.problem(name, _REFUSED[name])
    written = decoder.decode(_TlsSection, section.node, section.path, reserved=inline)
    for key in ("cert_file", "key_file"):
        if not getattr(written, key) and key.removesuffix("_file") not in inline:
            section.problem(key, "is missing; TLS needs cert_file and key_file")
    verify, required = _client_policy(section, written)
    before = len(decoder.problems)
    settings = _settings(section, written, folder, verify=verify, required=required)
    if before == len(decoder.problems) and written.cert_file and written.key_file:
        _try_files(section, settings, written, folder)
    return settings


def _client_policy(section: _Section, written: _TlsSection) -> tuple[bool, bool]:
    """Whether client certificates are verified, and whether one must be shown."""
    kind = written.client_auth_type or "NoClientCert"
    policy = _CLIENTS.get(kind)
    if kind in _UNVERIFIED:
        what = f"{kind} lets any self-made certificate in; write RequireAndVerifyClientCert"
        section.problem("client_auth_type", what)
    elif policy is None:
        known = ", ".join(_CLIENTS)
        section.problem("client_auth_type", f"unknown policy {kind!r}; known: {known}")
    elif policy[0] and not written.client_ca_file:
        what = f"is missing; {kind} needs the certificate of the authority"
        section.problem("client_ca_file", what)
    elif written.client_ca_file and kind == "NoClientCert":
        what = "is given, but no client_auth_type; write RequireAndVerifyClientCert"
        section.problem("client_ca_file", what)
    if written.client_allowed_sans and policy is not None and not policy[1]:
        what = "needs client_auth_type RequireAndVerifyClientCert"
        section.problem("client_allowed_sans", what)
    return policy or (True, True)


def _settings(
    section: _Section, written: _TlsSection, folder: Path, *, verify: bool, required: bool
) -> TlsSettings:
    from joulefloor.tls import CIPHERS, CIPHERS_OF_TLS13, VERSIONS, TlsSettings  # noqa: PLC0415  # OpenSSL only when asked for

    versions = list(VERSIONS)
    for key in ("min_version", "max_version"):
        if getattr(written, key) not in VERSIONS:
            section.problem(key, f"unknown version; known: {', '.join(versions)}")
    if written.min_version in VERSIONS and written.max_version in VERSIONS:  # noqa: SIM102  # two steps
        if versions.index(written.min_version) > versions.index(written.max_version):
            section.problem("min_version", f"is above max_version {written.max_version}")
    for suite in written.cipher_suites:
        if suite not in CIPHERS and suite not in CIPHERS_OF_TLS13:
            section.problem("cipher_suites", f"unknown or insecure suite {suite!r}")
    curve = ""
    if len(written.curve_preferences) > 1:
        section.problem("curve_preferences", "takes one curve, or leave it out for all of them")
    elif written.curve_preferences:
        curve = _CURVES.get(written.curve_preferences[0], "")
        if not curve:
            section.problem("curve_preferences", f"unknown curve; known: {', '.join(_CURVES)}")
    return TlsSettings(
        cert_file=folder / written.cert_file,
        key_file=folder / written.key_file,
        client_ca_file=folder / written.client_ca_file if written.client_ca_file else None,
        verify=verify,
        required=required,
        allowed_sans=written.client_allowed_sans,
        min_version=written.min_version,
        max_version=written.max_version,
        ciphers=tuple(CIPHERS[suite] for suite in written.cipher_suites if suite in CIPHERS),
        prefer_server_ciphers=written.prefer_server_cipher_suites,
        curve=curve,
    )


def _try_files(
    section: _Section, settings: TlsSettings, written: _TlsSection, folder: Path
) -> None:
    """Load certificate, key and authority once, so that a bad file is a problem of its line."""
    from joulefloor.tls import build_context  # noqa: PLC0415  # OpenSSL only when asked for

    try:
        build_context(settings)
    except ConfigError as error:
        for problem in error.problems:
            key = next(
                key
                for key in ("key_file", "cert_file", "client_ca_file")
                if str(folder / getattr(written, key)) == problem.where
            )
            section.problem(key, f"{problem.where}: {problem.what}")


def _headers(decoder: Decoder, entries: Mapping[str, tuple[Node, Node]]) -> dict[str, str]:
    if "http_server_config" not in entries:
        return {}
    section = _Section(decoder, "http_server_config", entries["http_server_config"][1])
    for name, (key, value) in section.entries.items():
        if name == "http2":
            decoder.value(bool, value, "http_server_config.http2")
        elif name != "headers":
            decoder.unknown(key, section.path, ["headers", "http2"])
    if "headers" not in section.entries:
        return {}
    listed = _Section(decoder, "http_server_config.headers", section.entries["headers"][1])
    headers: dict[str, str] = {}
    for name, (key, node) in listed.entries.items():
        if name not in _HEADERS:
            decoder.unknown(key, listed.path, list(_HEADERS))
        elif what := _wrong_with_header(name, node):
            listed.problem(name, what)
        elif node.value:
            headers[name] = str(node.value)
    return headers


def _wrong_with_header(name: str, node: Node) -> str:
    """Say what a header's value must be, "" if it is that; a blank one means no header."""
    if node.id != "scalar":
        return f"expected text, found a {node.id}"
    value = str(node.value)
    if not value.isprintable() or not value.isascii():
        return "holds characters that a header cannot have"
    known = _HEADERS[name]
    return f"is one of: {', '.join(known)}" if known and value and value not in known else ""


def _users(decoder: Decoder, entries: Mapping[str, tuple[Node, Node]]) -> dict[str, bytes]:
    users: dict[str, bytes] = {}
    if "basic_auth_users" not in entries:
        return users
    section = _Section(decoder, "basic_auth_users", entries["basic_auth_users"][1])
    for name, (_, node) in section.entries.items():
        # The message never repeats the value: it may be a password in plain text.
        if ":" in name:
            section.problem(name, "a user name cannot hold a colon")
        elif node.id != "scalar" or not _BCRYPT.fullmatch(str(node.value)):
            section.problem(name, 'is no bcrypt hash; make one with: htpasswd -nBC 10 ""')
        else:
            users[name] = str(node.value).encode("ascii")
    if users and find_spec("bcrypt") is None:
        what = "bcrypt is not installed; run: pip install 'joulefloor[auth]'"
        decoder.problem(section.node, section.path, what)
    return users
