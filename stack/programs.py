"""Finds the servers this machine has and installs missing ones, for `make run` and the tests."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).resolve().parent.parent
NEWER_ROOT: Final = ROOT / ".tools" / "forky" / "root"

# The names under which upstream and the distributions ship one program.
NAMES: Final[dict[str, tuple[str, ...]]] = {
    "prometheus": ("prometheus",),
    "promtool": ("promtool",),
    "alertmanager": ("alertmanager", "prometheus-alertmanager"),
    "amtool": ("amtool",),
    "node_exporter": ("node_exporter", "prometheus-node-exporter"),
    "victoriametrics": ("victoria-metrics", "victoria-metrics-prod"),
    "vmalert": ("vmalert", "vmalert-prod"),
    "grafana": ("grafana-server", "grafana"),
}
DEBIAN_PACKAGES: Final[dict[str, str]] = {
    "prometheus": "prometheus",
    "alertmanager": "prometheus-alertmanager",
}
SYSTEM_PLACES: Final = ("/usr/local/bin", "/usr/bin", "/usr/sbin", "/usr/share/grafana/bin")
_VERSION: Final = re.compile(r"(?:version|^\w[\w-]*)[ :]+v?(\d+\.\d+(?:\.\d+)?)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Program:
    """An executable of this machine, with the version it states ("" where it states none)."""

    name: str
    path: Path
    version: str

    @property
    def major(self) -> int | None:
        """The first number of the version, or None where the program states none."""
        return int(self.version.split(".")[0]) if self.version else None


def default_places() -> tuple[Path, ...]:
    """List where programs are looked for: PATH, the system's folders, the unpacked newer ones."""
    named = [Path(place) for place in os.environ.get("PATH", "").split(os.pathsep) if place]
    system = [Path(place) for place in SYSTEM_PLACES]
    return tuple(dict.fromkeys([*named, *system, NEWER_ROOT / "usr" / "bin"]))


def parse_places(text: str) -> tuple[Path, ...]:
    """Turn a PATH-like text into folders; an empty text means that no program is to be found."""
    return tuple(Path(place) for place in text.split(os.pathsep) if place)


def locate(
    name: str, *, major: int | None = None, places: Sequence[Path] | None = None
) -> Program | None:
    """Find the first program of that name (and major version), or None."""
    for place in default_places() if places is None else places:
        for file_name in NAMES[name]:
            path = place / file_name
            if not (path.is_file() and os.access(path, os.X_OK)):
                continue
            program = Program(name, path, stated_version(path))
            if major is None or program.major == major:
                return program
    return None


def stated_version(path: Path) -> str:
    """Ask a program for its version; "" where it cannot run or states none."""
    try:
        answer = subprocess.run(
            [path, "--version"],
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = _VERSION.search(answer.stdout) or _VERSION.search(answer.stderr)
    return found.group(1) if found else ""


def can_install() -> bool:
    """Say whether this process may install Debian packages."""
    return os.geteuid() == 0 and Path("/usr/bin/apt-get").exists()


def install(names: Sequence[str], log: Path) -> bool:
    """Install the Debian packages of the named programs; the output of apt-get goes to `log`."""
    environment = os.environ | {
        "DEBIAN_FRONTEND": "noninteractive",
        # Where systemd runs, the packages must not also start a service on the standard ports.
        "SYSTEMD_OFFLINE": "1",
    }
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]
    packages = [DEBIAN_PACKAGES[name] for name in names]
    steps = ([*apt, "update"], [*apt, "install", "--no-install-recommends", *packages])
    with log.open("ab") as output:
        return all(
            subprocess.run(
                step,
                check=False,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            ).returncode
            == 0
            for step in steps
        )


def installing_hint(names: Sequence[str]) -> str:
    """Word the one line that tells a person how to get what is missing."""
    packages = " ".join(DEBIAN_PACKAGES[name] for name in names)
    return f"sudo apt-get install --no-install-recommends {packages}"
