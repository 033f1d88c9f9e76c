"""A stand-in for python:3.11-slim-bookworm, made of Debian's own packages.

Registries of images are out of reach of many build machines; Debian's archive and the Python
package index are not. The stand-in is the same Debian with the same Python version, without
bytecode as the official image has it, and it is kept as .tools/image/base.tar.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from stack.programs import ROOT

NAME: Final = "python:3.11-slim-bookworm"
KEPT: Final = ROOT / ".tools" / "image" / "base.tar"
PACKAGES: Final = "ca-certificates,python3,python3-venv"
_MIRROR: Final = "http://deb.debian.org/debian"
_TRIES: Final = 3


class StandInError(Exception):
    """It cannot be made; the text says why."""


def base() -> Path:
    """Find the tarball, or make it (about a minute).

    Raises:
        StandInError: debootstrap failed.
    """
    if not KEPT.exists():
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT.parent) as folder:
            root = Path(folder) / "root"
            _bootstrap(root)
            _complete(root)
            tarball = Path(folder) / "base.tar"
            _run("tar", "--one-file-system", "--exclude=*.pyc", "-C", root, "-cf", tarball, ".")
            tarball.rename(KEPT)
    return KEPT


def _bootstrap(root: Path) -> None:
    command = ("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm")
    for attempt in range(1, _TRIES + 1):
        try:
            _run(*command, root, mirror())
        except StandInError:
            if attempt == _TRIES:
                raise
            shutil.rmtree(root, ignore_errors=True)
        else:
            return


def _complete(root: Path) -> None:
    """Give it the command `python`, and this machine's trust in whoever serves packages."""
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    trusted = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    if trusted and Path(trusted).exists():
        shutil.copy(trusted, root / "etc/ssl/certs/ca-certificates.crt")
    settings = "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n"
    (root / "etc/pip.conf").write_text(settings)
    for archive in (root / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()
    for listed in (root / "var/lib/apt/lists").glob("*_*"):
        listed.unlink()


def mirror() -> str:
    """The archive this machine's own packages come from, or Debian's."""
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    if sources.exists():
        for line in sources.read_text().splitlines():
            if line.startswith("URIs:"):
                return line.split()[1]
    return _MIRROR


def _run(*command: object) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        check=False,
        text=True,
        timeout=1800,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise StandInError(f"{command[0]}: {said}")
