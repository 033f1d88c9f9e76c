"""The processor an image is made for: this machine's, or another that QEMU plays meanwhile."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stack.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

UNPACKED: Final = ROOT / ".tools" / "image" / "qemu"
_HEAD: Final = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + b"\x02\0"
# Any ABI, and a shared object as well as an executable.
_MASK: Final = b"\xff" * 7 + b"\0" + b"\xff" * 8 + b"\xfe\xff\xff\xff"


class EmulationError(Exception):
    """The processor cannot be played; the text says why."""


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor under the names it has."""

    architecture: str
    """Debian's and Docker's."""
    machine: str
    """The kernel's, QEMU's and that of wheels."""
    elf: int
    """What a compiled file of it states as its machine."""

    @property
    def platform(self) -> str:
        return f"linux/{self.architecture}"


ALL: Final = (Processor("amd64", "x86_64", 62), Processor("arm64", "aarch64", 183))


def wanted() -> Processor:
    """The one that IMAGE_ARCHITECTURE names, or this machine's.

    Raises:
        EmulationError: it is none that the image is for.
    """
    asked = os.environ.get("IMAGE_ARCHITECTURE") or platform.machine()
    for processor in ALL:
        if asked in {processor.architecture, processor.machine}:
            return processor
    raise EmulationError(f"the image is not made for {asked}")


@contextlib.contextmanager
def played(processor: Processor) -> Iterator[None]:
    """Let the kernel run programs of a processor, in containers too, if it cannot already.

    Raises:
        EmulationError: QEMU is not to be had, or the kernel takes no interpreter.
    """
    if processor.machine == platform.machine():
        yield
        return
    program = _emulator(processor)
    name = f"joulefloor-{processor.architecture}-{os.getpid()}"
    # F: the kernel opens QEMU now, for roots in which it is not.
    told = b":%b:M::%b:%b:%b:F" % (
        name.encode(),
        _escaped(_HEAD + processor.elf.to_bytes(2, "little")),
        _escaped(_MASK),
        os.fsencode(program),
    )
    # A mount of its own shows the same entries as the system's, if there is one, and moves nothing.
    with tempfile.TemporaryDirectory(prefix="joulefloor-binfmt-") as folder:
        _run("mount", "-t", "binfmt_misc", "binfmt_misc", folder)
        try:
            try:
                (Path(folder) / "register").write_bytes(told)
            except OSError as error:
                raise EmulationError(f"binfmt_misc takes no interpreter: {error}") from error
            try:
                yield
            finally:
                (Path(folder) / name).write_text("-1")
        finally:
            _run("umount", folder)


def _emulator(processor: Processor) -> Path:
    """QEMU of this machine, or that of Debian's package, unpacked and kept in .tools/image."""
    name = f"qemu-{processor.machine}-static"
    if found := shutil.which(name):
        return Path(found)
    kept = UNPACKED / "usr" / "bin" / name
    if not kept.exists():
        UNPACKED.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=UNPACKED.parent) as folder:
            download = ("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download")
            _run(*download, "qemu-user-static", folder=folder)
            (package,) = Path(folder).glob("*.deb")
            _run("dpkg-deb", "-x", package, UNPACKED)
    if not kept.exists():
        raise EmulationError(f"Debian's qemu-user-static has no {name}")
    return kept


def _escaped(data: bytes) -> bytes:
    return b"".join(b"\\x%02x" % one for one in data)


def _run(*command: object, folder: str | None = None) -> None:
    try:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, check=False, cwd=folder, text=True
        )
    except FileNotFoundError as error:
        raise EmulationError(f"{command[0]} not found") from error
    if done.returncode != 0:
        raise EmulationError(f"{command[0]}: {done.stderr.strip()[-500:]}")
