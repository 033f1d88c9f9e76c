"""Receives what Alertmanager delivers, so that `make run` shows alerts and tests can read them."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from stack.processes import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as delivered: "firing" or "resolved", with its labels and annotations."""

    status: str
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def name(self) -> str:
        """The name of the rule that raised it."""
        return self.labels.get("alertname", "")


class AlertReceiver:
    """A webhook on loopback that hands each delivered alert to `deliver`, on its own thread."""

    def __init__(self, deliver: Callable[[Alert], None]) -> None:
        """Bind a free port; nothing is received before the `with` block."""

        class Webhook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                for alert in parse_delivery(json.loads(body)):
                    deliver(alert)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its signature
                """Stay silent: the alerts themselves are what is shown."""

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Webhook)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,))

    @property
    def url(self) -> str:
        """Where Alertmanager is to send to."""
        return f"http://{LOOPBACK}:{self._server.server_address[1]}/"

    def config(self) -> dict[str, object]:
        """Compose the alertmanager.yml that delivers every alert here within a second."""
        return {
            "route": {
                "receiver": "screen",
                "group_by": ["alertname"],
                "group_wait": "1s",
                "group_interval": "5s",
                "repeat_interval": "1h",
            },
            "receivers": [
                {
                    "name": "screen",
                    "webhook_configs": [{"url": self.url, "send_resolved": True}],
                },
            ],
        }

    def __enter__(self) -> Self:
        """Start receiving."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop receiving and give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def parse_delivery(delivery: dict[str, Any]) -> list[Alert]:
    """Read the alerts out of a webhook body (version 4 of Alertmanager's format)."""
    return [
        Alert(alert["status"], dict(alert["labels"]), dict(alert["annotations"]))
        for alert in delivery["alerts"]
    ]


def changes(deliver: Callable[[Alert], None]) -> Callable[[Alert], None]:
    """Hand on only what changed: Alertmanager sends all alerts of a group each time one does."""
    known: dict[frozenset[tuple[str, str]], str] = {}

    def deliver_change(alert: Alert) -> None:
        name = frozenset(alert.labels.items())
        if known.get(name) != alert.status:
            known[name] = alert.status
            deliver(alert)

    return deliver_change


def show(alert: Alert) -> None:
    """Show one delivered alert on a line."""
    severity = alert.labels.get("severity", "")
    summary = alert.annotations.get("summary", "")
    print(f"{time.strftime('%H:%M:%S')}  {alert.status:<8}  {severity:<8}  {alert.name}  {summary}")
