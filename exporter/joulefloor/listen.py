"""Listening sockets from what operators write after --web.listen-address."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, NamedTuple

from joulefloor.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterable

_BACKLOG = 128
_LARGEST_PORT = 65_535
_FIRST_FREE_PORT = 1_024
_FLAG = "--web.listen-address"


class Address(NamedTuple):
    """Where to listen; an empty host means every interface, IPv6 and IPv4."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write it as operators do."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(written: str) -> Address:
    """Read `:13806`, `host:13806`, `127.0.0.1:13806` or `[::1]:13806`; port 0 means a free one.

    Raises:
        StartError: it is none of these.
    """
    host, colon, port = written.strip().rpartition(":")
    if not colon:
        hint = f":{port}" if port.isdigit() else f"{port}:13806"
        raise StartError(f"{_FLAG}={written}: the port is missing; write {_FLAG}={hint}")
    if not (port.isascii() and port.isdigit()) or int(port) > _LARGEST_PORT:
        raise StartError(f"{_FLAG}={written}: {port!r} is not a port; write 0 to {_LARGEST_PORT}")
    bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not bracketed:
        raise StartError(f"{_FLAG}={written}: write an IPv6 address in brackets: [{host}]:{port}")
    host = host[1:-1] if bracketed else host
    if not host.isascii() or any(letter.isspace() for letter in host):
        raise StartError(f"{_FLAG}={written}: {host!r} is not a host name or address")
    return Address(host, int(port))


def listen_on_all(addresses: Iterable[str]) -> tuple[socket.socket, ...]:
    """Listen on every address, or on none.

    Raises:
        StartError: one of them cannot be had.
    """
    listeners: list[socket.socket] = []
    try:
        for address in addresses:
            listeners.append(listen(address))  # noqa: PERF401  # those before a failure are closed
    except StartError:
        for listener in listeners:
            listener.close()
        raise
    return tuple(listeners)


def listen(written: str) -> socket.socket:
    """Open a non-blocking listening socket there.

    Raises:
        StartError: it cannot be had; the message names the place and the fix.
    """
    address = parse_address(written)
    if not address.host:
        return _listen_everywhere(address)
    try:
        # As bytes: a str would load the idna codec and its tables, 1 MiB for nothing.
        found = socket.getaddrinfo(
            address.host.encode("ascii"), address.port, type=socket.SOCK_STREAM
        )
    except socket.gaierror as error:
        raise StartError(
            f"{_FLAG}={written}: no such host ({error.strerror}); "
            f"name an address of this machine, or write :{address.port} for all of them"
        ) from error
    # A name with both kinds of address is listened on as IPv4 first, as other exporters do.
    family, _, _, _, place = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    try:
        return _bound(socket.AddressFamily(family), place, dual=False)
    except OSError as error:
        raise _cannot(address, error) from error


def _listen_everywhere(address: Address) -> socket.socket:
    try:
        try:
            return _bound(socket.AF_INET6, ("::", address.port), dual=True)
        except OSError as error:
            if error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EINVAL}:
                raise
            return _bound(socket.AF_INET, ("0.0.0.0", address.port), dual=False)  # noqa: S104  # the operator asked for it
    except OSError as error:
        raise _cannot(address, error) from error


def _bound(
    family: socket.AddressFamily, place: tuple[str | int, ...] | tuple[int, bytes], *, dual: bool
) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        listener.bind(place)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _cannot(address: Address, error: OSError) -> StartError:
    port = address.port
    match error.errno:
        case errno.EADDRINUSE:
            fix = f"stop what uses it (ss -ltnp 'sport = :{port}' shows it) or choose another port"
            why = "the port is already in use"
        case errno.EACCES:
            fix = f"choose a port from {_FIRST_FREE_PORT} on, or grant CAP_NET_BIND_SERVICE"
            why = "this user may not listen there"
        case errno.EADDRNOTAVAIL:
            fix = f"name an address that `ip addr` shows, or write :{port} for all of them"
            why = "no interface of this machine has that address"
        case _:
            fix = "choose another address"
            why = error.strerror or str(error)
    return StartError(f"cannot listen on {address}: {why}; {fix} with {_FLAG}")
