"""Draws dashboards with Grafana's own components in headless Chromium, for tests and pictures.

There is no Grafana server in this: the page in ``grafana/`` runs Grafana's published libraries
against the HTTP API of a real Prometheus. What was drawn comes back as a ``Report`` per dashboard
and one PNG each.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.browser.reports import Report, complaints
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.browser.reports import Theme

TREE: Final = Path(__file__).parent / "grafana"
INSTALL_SECONDS: Final = 900.0
INSTALL_TRIES: Final = 3
BUNDLE_SECONDS: Final = 600.0
PATIENCE_SECONDS: Final = PATIENCE_S
"""How long one dashboard may take to answer all its queries."""
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")


class DrawError(RuntimeError):
    """Nothing could be drawn: a tool is missing, or the browser or the page failed."""


def missing() -> str:
    """Says for a test's skip what this machine lacks to draw, or nothing."""
    lacks = [name for name in ("node", "npm") if shutil.which(name) is None]
    if _browser() is None:
        lacks.append("chromium")
    return f"drawing needs {' and '.join(lacks)}" if lacks else ""


def prepare() -> Path:
    """Installs the npm tree and bundles the page, each only when its inputs changed.

    Returns the bundle's folder. Test runs side by side wait for one another here.

    Raises: DrawError when a tool is missing or a step failed.
    """
    if lacks := missing():
        raise DrawError(lacks)
    with (TREE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        locked = _digest([TREE / "package-lock.json"])
        _install(locked)
        return _bundle(locked)


def draw(
    dashboards: Sequence[Path],
    prometheus_url: str,
    out: Path,
    *,
    theme: Theme = "dark",
    width: int = 1600,
    height: int | None = None,
    from_: str = "now-15m",
    to: str = "now",
    variables: Mapping[str, str | list[str]] | None = None,
    scrape_interval: str = "15s",
    scale: float = 1.0,
) -> list[Report]:
    """Draws each dashboard file and writes ``<stem>.png`` and ``<stem>.json`` to ``out``.

    ``width`` and ``height`` in CSS pixels, ``height`` the whole dashboard when absent; ``scale``
    is device pixels per CSS pixel. ``variables`` replace current values. ``scrape_interval`` is
    what a Grafana data source has set; it decides ``$__rate_interval``.

    Raises: DrawError when a tool is missing or a page failed. A broken panel is no failure: it
    is in the report.
    """
    shared = {
        "theme": theme,
        "width": width,
        "height": height,
        "scale": scale,
        "from": from_,
        "to": to,
        "variables": dict(variables or {}),
        "scrapeInterval": scrape_interval,
        "patienceMs": PATIENCE_SECONDS * 1000,
    }
    built = prepare()
    out.mkdir(parents=True, exist_ok=True)
    pictures = [(out / f"{path.stem}.png").resolve() for path in dashboards]
    jobs = [
        {**shared, "dashboard": json.loads(path.read_text()), "png": str(png)}
        for path, png in zip(dashboards, pictures, strict=True)
    ]
    lines = _drive(built, prometheus_url, jobs)
    return [
        _report(lines.get(index), source, png)
        for index, (source, png) in enumerate(zip(dashboards, pictures, strict=True))
    ]


def _report(raw: dict[str, Any] | None, source: Path, png: Path) -> Report:
    if raw is None or "failure" in raw:
        cause = "the browser ended before it was drawn" if raw is None else raw["failure"]
        raise DrawError(f"{source}: {cause}")
    png.with_suffix(".json").write_text(json.dumps(raw, indent=1) + "\n")
    return Report.read(raw, source, png)


def _drive(
    built: Path, prometheus_url: str, jobs: Sequence[Mapping[str, Any]]
) -> dict[int, dict[str, Any]]:
    """Runs one browser over the whole batch; answers by the job's place in it."""
    batch = {
        "chromium": _browser(),
        "built": str(built.resolve()),
        "prometheus": prometheus_url,
        "jobs": jobs,
    }
    with subprocess.Popen(
        [_tool("node"), str(TREE / "drive.mjs")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NODE_ENV": "production"},
    ) as driver:
        try:
            seconds = 60 + (PATIENCE_SECONDS + 30) * len(jobs)
            stdout, stderr = driver.communicate(json.dumps(batch), timeout=seconds)
        except subprocess.TimeoutExpired as error:
            driver.terminate()
            raise DrawError(f"the browser did not finish in {seconds:g} s") from error
        except BaseException:
            driver.terminate()
            raise
    if driver.returncode:
        raise DrawError(f"the driver ended with {driver.returncode}: {stderr[-2000:]}")
    lines = [json.loads(line) for line in stdout.splitlines()]
    return {line.pop("index"): line for line in lines}


def _install(locked: str) -> None:
    stamp = TREE / "node_modules" / ".locked"
    if stamp.exists() and stamp.read_text() == locked:
        return
    command = [_tool("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    for attempt in range(1, INSTALL_TRIES + 1):
        try:
            _run(command, INSTALL_SECONDS)
        except DrawError:
            # The registry may be away for a moment.
            if attempt == INSTALL_TRIES:
                raise
        else:
            break
    stamp.write_text(locked)


def _bundle(locked: str) -> Path:
    built = TREE / "built"
    stamp = built / "done"
    sources = [path for path in (TREE / "src").rglob("*") if path.is_file()]
    wanted = locked + _digest([*sources, TREE / "build.mjs"])
    if not stamp.exists() or stamp.read_text() != wanted:
        _run([_tool("node"), "build.mjs"], BUNDLE_SECONDS)
        stamp.write_text(wanted)
    return built


def _run(command: Sequence[str], seconds: float) -> None:
    done = subprocess.run(
        command, cwd=TREE, capture_output=True, text=True, timeout=seconds, check=False
    )
    if done.returncode:
        said = done.stderr[-2000:] or done.stdout[-2000:]
        raise DrawError(f"{' '.join(command)} failed: {said}")


def _digest(paths: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise DrawError(f"drawing needs {name}")
    return found


def _browser() -> str | None:
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.browser.draw", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("dashboards", nargs="+", type=Path, help="JSON files, or folders of them")
    add("--prometheus", required=True, metavar="URL")
    add("--out", required=True, type=Path, metavar="DIR")
    add("--theme", choices=("dark", "light"), default="dark")
    add("--width", type=int, default=1600, help="pixels (default %(default)s)")
    add("--height", type=int, help="pixels (default: the whole dashboard)")
    add("--scale", type=float, default=1.0, help="device pixels per pixel")
    add("--from", dest="from_", default="now-15m", help="default %(default)s")
    add("--to", default="now", help="default %(default)s")
    add("--scrape-interval", default="15s", help="default %(default)s")
    add("--var", action="append", default=[], metavar="NAME=VALUE", help="repeatable")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws files or folders of dashboards, prints what is wrong with them; 1 when anything is."""
    options = _options(arguments)
    files = [
        file
        for path in options.dashboards
        for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])
    ]
    chosen: dict[str, list[str]] = {}
    for name, _, value in (pair.partition("=") for pair in options.var):
        chosen.setdefault(name, []).append(value)
    reports = draw(
        files,
        options.prometheus,
        options.out,
        theme=options.theme,
        width=options.width,
        height=options.height,
        from_=options.from_,
        to=options.to,
        variables={name: v if len(v) > 1 else v[0] for name, v in chosen.items()},
        scrape_interval=options.scrape_interval,
        scale=options.scale,
    )
    for report in reports:
        sys.stdout.write(f"{report.png}: {len(report.panels)} panels, {report.seconds:.1f} s\n")
        sys.stdout.writelines(f"  {line}\n" for line in complaints(report))
    return int(any(complaints(report) for report in reports))


if __name__ == "__main__":
    sys.exit(main())
