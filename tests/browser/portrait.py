"""Takes the pictures of the live page in docs/images/: `python -m tests.browser.portrait`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from stack.processes import LOOPBACK, free_port, launch
from tests.browser.chromium import Chromium

ROOT = Path(__file__).parent.parent.parent
IMAGES = ROOT / "docs" / "images"
DEMO = ROOT / "stack" / "demo.yaml"
WATTS_SHOWN = "document.body.innerText.includes('kJ')"
SHOTS = (("live-page.png", 1180, 760, False),)


def main() -> None:
    """Run the simulated machine for a few seconds and photograph its page."""
    with tempfile.TemporaryDirectory(prefix="joulefloor-portrait-") as place:
        port = free_port()
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "joulefloor",
            "run",
            f"--config.file={DEMO}",
            f"--web.listen-address={LOOPBACK}:{port}",
        ]
        with (
            launch("joulefloor", command, port=port, directory=Path(place)) as daemon,
            Chromium(Path(place) / "profile") as browser,
        ):
            daemon.await_ready("/readyz")
            for name, width, height, phone in SHOTS:
                browser.resize(width, height, phone=phone)
                browser.open(f"{daemon.url}/")
                browser.wait_for(WATTS_SHOWN, 30)
                browser.screenshot(IMAGES / name)


if __name__ == "__main__":
    main()
