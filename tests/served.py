"""Text served on loopback as exporters serve theirs, for a real Prometheus to scrape."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from stack.processes import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def served(page: Callable[[str], bytes]) -> Iterator[str]:
    """Answer each path (without its first slash) with `page` of it; yields host:port."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page(self.path.strip("/"))
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: the output of the tests is for their failures."""

    with ThreadingHTTPServer((LOOPBACK, 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"{LOOPBACK}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
