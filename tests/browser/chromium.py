"""A headless Chromium for tests, driven over the DevTools protocol through a pair of pipes.

No WebSocket, no Node, no driver download: the browser of the distribution is enough.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any, Final, Self

from stack.query import eventually
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers, where its sandbox cannot start
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)


def find_chromium() -> str | None:
    """Path of a Chromium, None if there is none."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


class BrowserError(Exception):
    """The browser does not do what it was asked."""


class Chromium:
    """One browser process with one page; a context manager."""

    def __init__(self, profile: Path) -> None:
        """Start with an empty profile in the given folder."""
        program = find_chromium()
        if program is None:
            raise BrowserError("chromium is not installed")
        ours, theirs = os.pipe(), os.pipe()
        command = 'exec "$0" "$@" 3<&"$JF_IN" 4>&"$JF_OUT"'
        self._process = subprocess.Popen(
            ["bash", "-c", command, program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(ours[0], theirs[1]),
            env={**os.environ, "JF_IN": str(ours[0]), "JF_OUT": str(theirs[1])},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._write, self._read = ours[1], theirs[0]
        self._readable = select.poll()
        self._readable.register(self._read, select.POLLIN)
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        """Take the page."""
        try:
            self._attach()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the browser and its helpers."""
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)
        os.close(self._write)
        os.close(self._read)

    def send(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call the protocol and wait for the answer; what happens meanwhile lands in `events`."""
        self._number += 1
        message: dict[str, object] = {
            "id": self._number,
            "method": method,
            "params": parameters,
        }
        if self._session is not None:
            message["sessionId"] = self._session
        self._put(json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = self._next(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def open(self, url: str) -> None:
        """Load a page and wait until it is loaded; `events` then tells of this page only."""
        self.leave()
        self.send("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def leave(self) -> None:
        """Go to an empty page, so that the last one asks for nothing and complains no more."""
        self.send("Page.navigate", url="about:blank")
        self.wait_for("document.readyState === 'complete' && location.href === 'about:blank'")
        self.events.clear()

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401  # any JSON value
        """Value of a JavaScript expression; a promise is awaited."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise BrowserError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait_for(self, condition: str, seconds: float = PATIENCE_S) -> None:
        """Wait until a JavaScript condition holds.

        Raises:
            BrowserError: it does not in time.
        """
        # Asked from here and not by a timer in the page, which may have its scripts switched off.
        deadline = time.monotonic() + seconds
        while self.evaluate(f"Boolean({condition})") is not True:
            if time.monotonic() > deadline:
                raise BrowserError(f"did not come true within {seconds} s: {condition}")
            ready, _, _ = select.select([self._read], [], [], 0.05)
            if ready:
                self.events.append(self._next(deadline))

    def resize(self, width: int, height: int = 900, *, phone: bool = False) -> None:
        """Set the size of the page in CSS pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    def prefer(self, scheme: str) -> None:
        """Set the person's colour scheme: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: Path) -> None:
        """Write the whole page as PNG."""
        picture = self.send("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(picture["data"]))

    def errors(self) -> list[str]:
        """What the page complained of since it was opened: console, exceptions, policy."""
        found = []
        for event in self.events:
            parameters = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(parameters["exceptionDetails"]))
            elif event.get("method") == "Log.entryAdded":
                found.append(str(parameters["entry"]["text"]))
            elif event.get("method") == "Runtime.consoleAPICalled":
                found.append(str(parameters["args"]))
        return found

    def requested(self) -> list[str]:
        """Addresses the page asked for since it was opened."""
        return [
            str(event["params"]["request"]["url"])
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def _attach(self) -> None:
        # The browser may answer before its first page is there.
        pages = eventually(self._pages, within_s=PATIENCE_S)
        if not pages:
            raise BrowserError("the browser has no page")
        attached = self.send("Target.attachToTarget", targetId=pages[0], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def _pages(self) -> list[str]:
        targets = self.send("Target.getTargets")["targetInfos"]
        return [target["targetId"] for target in targets if target["type"] == "page"]

    def _put(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._write, data) :]

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            # select() knows descriptors up to 1023 only.
            if not self._readable.poll(max(0.0, deadline - time.monotonic()) * 1e3):
                raise BrowserError("the browser does not answer")
            chunk = os.read(self._read, 1_048_576)
            if not chunk:
                raise BrowserError("the browser has ended")
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        parsed: dict[str, Any] = json.loads(message)
        return parsed
