"""HTTP/1.1 as text, for the server: a request out of bytes, bytes out of a response. No sockets.

Only what scrapers and browsers need: GET and HEAD without bodies. Whatever else arrives is a
BadRequest with the status to answer, so that no byte sequence can do more than be refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

METHODS = ("GET", "HEAD")
END_OF_HEAD = b"\r\n\r\n"
_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CONTROLS = bytes(range(9)) + bytes(range(10, 32)) + b"\x7f"
_DAYS = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")
_MONTHS = ("Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb")

REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
"""The status codes this server sends, with their phrases of RFC 9110."""


class Request(NamedTuple):
    """One request as a route sees it; header names are lower-case, repeated ones are joined."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    keep_alive: bool = True


class Response(NamedTuple):
    """What a route answers; Content-Length, Date and Connection are the server's business."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


if TYPE_CHECKING:
    Route = Callable[[Request], Response]


class BadRequest(ValueError):  # noqa: N818  # named after the answer it leads to
    """A request that is refused: the status to answer and one sentence for whoever sent it."""

    def __init__(self, status: int, why: str) -> None:
        """Keep both for the answer."""
        super().__init__(why)
        self.status = status
        self.why = why


def text(status: int, words: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Answer one line of plain text."""
    return Response(status, "text/plain; charset=utf-8", f"{words}\n".encode(), headers)


def parse_head(head: bytes) -> Request:
    """Read a request line and its headers, without the empty line that ends them.

    Raises:
        BadRequest: it is no request this server can answer, with the status to send.
    """
    line, _, rest = head.partition(b"\r\n")
    method, target, version = _request_line(line)
    headers = _headers(rest)
    if version == "1.1" and "host" not in headers:
        raise BadRequest(400, "the Host header is missing")
    path, _, query = _origin_form(target).partition("?")
    _refuse_body(headers)
    options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
    lasting = "close" not in options if version == "1.1" else "keep-alive" in options
    return Request(method, path, query, headers, lasting)


def _request_line(line: bytes) -> tuple[str, str, str]:
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[0] or parts[0].translate(None, _TOKEN):  # noqa: PLR2004  # RFC 9112 section 3
        raise BadRequest(400, "the first line is not: METHOD PATH HTTP/1.1")
    method, target, version = parts
    if version not in {b"HTTP/1.1", b"HTTP/1.0"}:
        known = version.startswith(b"HTTP/")
        raise BadRequest(505 if known else 400, "this server speaks HTTP/1.1 and HTTP/1.0")
    if not target.isascii() or target.translate(None, _CONTROLS) != target:
        raise BadRequest(400, "the path holds bytes that must be percent-encoded")
    return method.decode("ascii"), target.decode("ascii"), version[5:].decode("ascii")


def _headers(block: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    if not block:
        return headers
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, _TOKEN):
            raise BadRequest(400, "a header line is not: Name: value")
        if value.translate(None, _CONTROLS) != value:
            raise BadRequest(400, "a header holds a control character")
        key = name.decode("ascii").lower()
        words = value.strip(b" \t").decode("latin-1")
        if key in headers:
            if key in {"host", "content-length"}:
                raise BadRequest(400, f"the header {key} is given twice")
            words = f"{headers[key]}, {words}"
        headers[key] = words
    return headers


def _origin_form(target: str) -> str:
    if target.startswith("/"):
        return target
    scheme, mark, rest = target.partition("://")
    if mark and scheme.lower() in {"http", "https"}:
        slash = rest.find("/")
        question = rest.find("?")
        if slash >= 0 and (question < 0 or slash < question):
            return rest[slash:]
        return "/" if question < 0 else "/" + rest[question:]
    if target == "*" or ":" in target:
        return target
    raise BadRequest(400, "the path does not begin with /")


def _refuse_body(headers: Mapping[str, str]) -> None:
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise BadRequest(400, "Content-Length is not a number")
    if "transfer-encoding" in headers or length.strip("0"):
        raise BadRequest(413, "this server takes no request body: it only answers GET and HEAD")


def encode_head(
    response: Response, date: str, fixed: Mapping[str, str], *, keep_alive: bool
) -> bytes:
    """Write status line and headers; `fixed` headers win over those of the response."""
    lines = [
        f"HTTP/1.1 {response.status} {REASONS[response.status]}",
        f"Date: {date}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
    ]
    if response.headers or fixed:
        both = {**dict(response.headers), **fixed}
        lines.extend(f"{name}: {value}" for name, value in both.items())
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def http_date(unix_s: int) -> str:
    """Write a moment (seconds since 1970, >= 0) as HTTP dates are written, whatever the locale."""
    days, seconds = divmod(unix_s, 86_400)
    # Years are counted from 1 March, so that the leap day is the last day of its year.
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day_of_month = day - (153 * month + 2) // 5 + 1
    shown_year = era * 400 + year + (1 if month >= 10 else 0)  # noqa: PLR2004  # January and February
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{_DAYS[days % 7]}, {day_of_month:02} {_MONTHS[month]} {shown_year:04} {clock} GMT"
