"""A machine for tests: a host file under a temporary root, and a clock that holds still."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from joulefloor.host import Host
from joulefloor.hostfile import expand, parse
from joulefloor.units import NANOSECONDS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTS = Path(__file__).parent / "hosts"
NOBODY = 65534
_LIBC = ctypes.CDLL(None, use_errno=True)
_SET_IDS = {"x86_64": (117, 119), "aarch64": (147, 149)}
"""Numbers of the system calls setresuid and setresgid, by architecture."""


def _become(user: int) -> None:
    """Change the effective user and group of this thread and of those it starts.

    os.seteuid() would change all threads, also those that keep a fleet of other tests alive.
    """
    set_user, set_group = _SET_IDS[platform.machine()]
    # The group first when giving up rights, last when taking them back: both need uid 0.
    order = (set_group, set_user) if user else (set_user, set_group)
    for number in order:
        if _LIBC.syscall(number, -1, user, -1):
            raise OSError(ctypes.get_errno(), f"cannot become user {user}")


class ManualClock:
    """A clock that moves only when told to; starts at one second."""

    def __init__(self) -> None:
        """Every clock starts at a different, recognisable value."""
        self.now_ns = NANOSECONDS_PER_SECOND
        self.suspended_ns = 0
        self.wall_s = 1_800_000_000.0
        self.cpu_s = 0.0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def boottime_ns(self) -> int:
        return self.now_ns + self.suspended_ns

    def unix_s(self) -> float:
        return self.wall_s

    def process_cpu_s(self) -> float:
        return self.cpu_s

    def advance(self, seconds: float) -> None:
        """Let time pass, awake."""
        self.now_ns += round(seconds * NANOSECONDS_PER_SECOND)
        self.wall_s += seconds


class Machine:
    """A writable machine under a root, with its Host and clock."""

    def __init__(
        self, root: Path, *, host_file: str | None = None, text: str | None = None
    ) -> None:
        """Expand tests/hosts/<host_file>.host or the given text; empty if neither."""
        self.root = root
        self.host = Host(root)
        self.clock = ManualClock()
        if host_file is not None:
            text = (HOSTS / f"{host_file}.host").read_text()
        if text is not None:
            expand(parse(text), root)

    def write(self, path: str, content: str | int | bytes) -> None:
        """Change a file in place, as the kernel would: kept descriptors see it."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else f"{content}\n".encode()
        if not target.exists():
            target.write_bytes(data)
            return
        with target.open("r+b", buffering=0) as file:
            # In one write, so that no reader meets a file that is empty or half done.
            file.write(data.ljust(os.fstat(file.fileno()).st_size, b"\n"))
            file.truncate(len(data))

    def remove(self, path: str) -> None:
        """Take a file away; an open one reads as empty, as near as it gets to ENODEV."""
        target = self.root / path
        if target.is_file():
            os.truncate(target, 0)
        target.unlink()

    @contextmanager
    def as_nobody(self) -> Iterator[None]:
        """Run without the right to read files of mode 0400, whoever runs the tests."""
        for folder in (self.root, *self.root.parents):
            if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o755)
        if os.geteuid() != 0:
            with self._owned_files_closed():
                yield
            return
        _become(NOBODY)
        try:
            yield
        finally:
            _become(0)

    @contextmanager
    def _owned_files_closed(self) -> Iterator[None]:
        """What root sees as 0400 of another user, for those who are not root."""
        files = [path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink()]
        private = {path: path.stat().st_mode for path in files if not path.stat().st_mode & 0o044}
        for path in private:
            path.chmod(0)
        try:
            yield
        finally:
            for path, mode in private.items():
                path.chmod(mode)
