"""A stand-in for python:3.11-slim-bookworm, made of Debian's own packages.

Registries of images are out of reach of many build machines; Debian's archive and the Python
package index are not. The stand-in is the same Debian with the same Python version, without
bytecode as the official image has it, and it is kept in .tools/image, one for each processor.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stack.programs import ROOT

if TYPE_CHECKING:
    from tests.image.engine import Engine

NAME: Final = "python:3.11-slim-bookworm"
KEPT: Final = ROOT / ".tools" / "image"
PACKAGES: Final = "ca-certificates,python3,python3-venv"
_MIRROR: Final = "http://deb.debian.org/debian"
_TRIES: Final = 3


class StandInError(Exception):
    """It cannot be made; the text says why."""


def bring(engine: Engine, architecture: str) -> None:
    """Give it to an engine; the first time it has to be made (a minute, or four under QEMU).

    Raises:
        StandInError: debootstrap failed.
        EngineError: the engine does not take it.
    """
    kept = KEPT / f"base-{architecture}.tar"
    if not kept.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT) as folder:
            root = Path(folder) / "root"
            _bootstrap(root, architecture)
            _complete(root)
            tarball = Path(folder) / kept.name
            _run("tar", "--one-file-system", "--exclude=*.pyc", "-C", root, "-cf", tarball, ".")
            tarball.rename(kept)
    engine.build(KEPT, NAME, f"--file={Path(__file__).with_name('standin.Dockerfile')}")


def _bootstrap(root: Path, architecture: str) -> None:
    command = (
        "debootstrap",
        f"--arch={architecture}",
        "--variant=minbase",
        f"--include={PACKAGES}",
        "bookworm",
    )
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
