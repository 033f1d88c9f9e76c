"""The machine's files under one root: the only code that opens /proc, /sys, /dev or kubelet files.

Paths are given relative to the root, without a leading slash: "sys/class/hwmon". A root other than
"/" is a mounted host (`--path.rootfs=/host`) or a recorded machine in the tests.
"""

from __future__ import annotations

import errno
import os
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeVar

from joulefloor.errors import Reason, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

T = TypeVar("T")

_REASONS = {
    errno.ENOENT: Reason.ABSENT,
    errno.ENOTDIR: Reason.ABSENT,
    errno.EACCES: Reason.DENIED,
    errno.EPERM: Reason.DENIED,
    errno.EISDIR: Reason.GARBLED,
    errno.EINVAL: Reason.GARBLED,
    errno.ELOOP: Reason.GARBLED,
    errno.ETIMEDOUT: Reason.LATE,
    errno.EAGAIN: Reason.LATE,
    errno.EBUSY: Reason.LATE,
    errno.ENODATA: Reason.UNSUPPORTED,
    errno.EOPNOTSUPP: Reason.UNSUPPORTED,
}
ATTRIBUTE_BYTES = 4096
"""A sysfs attribute is one page at most."""


def source_error(error: OSError, path: str) -> SourceError:
    """What an OSError of a read means; what is not listed is a device that stopped answering."""
    reason = _REASONS.get(error.errno or 0, Reason.LOST)
    return SourceError(reason, f"{path}: {error.strerror}")


def parse_integer(text: bytes, path: str) -> int:
    """Strict decimal integer as the kernel prints it.

    Raises:
        SourceError: GARBLED when there is anything else.
    """
    stripped = text.strip()
    digits = stripped[1:] if stripped[:1] == b"-" else stripped
    if not digits.isdigit() or len(digits) > 20:  # noqa: PLR2004  # 2**64 has 20 digits
        raise SourceError(Reason.GARBLED, f"{path}: not an integer: {text[:40]!r}")
    return int(stripped)


class KeptFile:
    """A file read again and again: the descriptor is kept, each read is one pread at offset 0.

    Works for sysfs, procfs and cgroupfs, where a read at offset 0 makes the kernel produce the
    value anew. After an error the descriptor is dropped and the next read opens the path again.
    Like a file object, it takes its descriptor along when nobody holds it any more.
    """

    __slots__ = ("_descriptor", "_full", "_limit", "path")

    def __init__(self, full: str, path: str, limit: int = ATTRIBUTE_BYTES) -> None:
        """Nothing is opened before the first read."""
        self.path = path
        self._full = full
        self._limit = limit
        self._descriptor = -1

    def read(self) -> bytes:
        """Content now, at most `limit` bytes.

        Raises:
            SourceError: the reason is taken from the errno.
        """
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._full, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._descriptor, self._limit, 0)
        except OSError as error:
            self.close()
            raise source_error(error, self.path) from None

    def descriptor(self) -> int:
        """The descriptor it keeps, opened now if there is none.

        Raises:
            SourceError: the reason is taken from the errno.
        """
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._full, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise source_error(error, self.path) from None
        return self._descriptor

    def integer(self) -> int:
        """Content as a decimal integer.

        Raises:
            SourceError: GARBLED when it is none (then the file is opened anew next time).
        """
        text = self.read()
        try:
            return parse_integer(text, self.path)
        except SourceError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the descriptor; closing twice is allowed."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        """Whoever forgot to close it costs no descriptor."""
        self.close()


class KeptFiles:
    """Kept files that are read together in one loop of the interpreter's own, not of ours.

    The files belong to the caller, who calls `forget` whenever one may have been closed: the number
    of its descriptor may stand for another file by then.
    """

    __slots__ = ("_descriptors", "_files", "_limit")

    def __init__(self, files: Sequence[KeptFile], limit: int) -> None:
        """Nothing is opened before the first read, which gives `limit` bytes of each at most."""
        self._files = tuple(files)
        self._limit = limit
        self._descriptors: list[int] = []

    def read(self) -> list[bytes]:
        """Content of each now, in order.

        Raises:
            SourceError: one of them cannot be read; which ones, only reading each alone tells.
        """
        if not self._descriptors:
            opened = [file.descriptor() for file in self._files]
            self._descriptors = opened
        try:
            return list(map(os.pread, self._descriptors, repeat(self._limit), repeat(0)))
        except OSError as error:
            self.forget()
            raise source_error(error, "one of the files that are read together") from None

    def forget(self) -> None:
        """Ask the files for their descriptors again: one of them may have been closed."""
        self._descriptors = []


class Host:
    """One machine's file tree."""

    __slots__ = ("_shared", "root")

    def __init__(self, root: Path) -> None:
        """`root` is "/" for the machine itself."""
        self.root = root
        self._shared: dict[Callable[[Host], Any], Any] = {}

    def shared(self, make: Callable[[Host], T]) -> T:
        """What all who need it use together: made for the first of them, by `make`."""
        if make not in self._shared:
            self._shared[make] = make(self)
        one: T = self._shared[make]
        return one

    def keep(self, path: str, limit: int = ATTRIBUTE_BYTES) -> KeptFile:
        """A file to be read repeatedly."""
        return KeptFile(self._full(path), path, limit)

    def names(self, folder: str) -> list[str]:
        """Names in a folder, sorted with numbers in numeric order.

        Raises:
            SourceError: ABSENT, DENIED or LOST.
        """
        try:
            return sorted(os.listdir(self._full(folder)), key=_natural)  # noqa: PTH208  # cheaper
        except OSError as error:
            raise source_error(error, folder) from None

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder, links left out, in no order.

        Raises:
            SourceError: ABSENT, DENIED or LOST.
        """
        try:
            with os.scandir(self._full(folder)) as entries:
                return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            raise source_error(error, folder) from None

    def stamp(self, folder: str) -> tuple[int, int]:
        """What changes when a folder gains or loses a folder; (0, 0) when it is gone.

        The kernel's own file systems count the links of a folder, others note the time.
        """
        try:
            status = os.stat(self._full(folder))  # noqa: PTH116  # no Path object per tick
        except OSError:
            return (0, 0)
        return (status.st_nlink, status.st_mtime_ns)

    def has(self, path: str) -> bool:
        """Whether the path exists (a dangling link does not)."""
        return os.path.exists(self._full(path))  # noqa: PTH110  # no Path object per probe

    def exists(self, path: str) -> bool:
        """Whether the path exists, where that this user may not know it is not the same as no.

        Raises:
            SourceError: DENIED when a folder on the way may not be entered, or as `KeptFile.read`.
        """
        try:
            os.stat(self._full(path))  # noqa: PTH116  # no Path object per read
        except OSError as error:
            failure = source_error(error, path)
            if failure.reason is Reason.ABSENT:
                return False
            raise failure from None
        return True

    def text(self, path: str, limit: int = 65_536) -> str:
        """Content of a small file read once, without surrounding white space.

        Raises:
            SourceError: GARBLED when it is not UTF-8, else as `KeptFile.read`.
        """
        kept = self.keep(path, limit)
        try:
            return kept.read().decode().strip().strip("\0")
        except UnicodeDecodeError:
            raise SourceError(Reason.GARBLED, f"{path}: not text") from None
        finally:
            kept.close()

    def integer(self, path: str) -> int:
        """Content of a file read once, as an integer.

        Raises:
            SourceError: as `KeptFile.integer`.
        """
        kept = self.keep(path)
        try:
            return kept.integer()
        finally:
            kept.close()

    def text_or(self, path: str, default: str) -> str:
        """Content for a name that merely describes; `default` when it cannot be read."""
        try:
            return self.text(path)
        except SourceError:
            return default

    def count(self, folder: str) -> int:
        """Number of names in a folder, without the cost of sorting them.

        Raises:
            SourceError: ABSENT, DENIED or LOST.
        """
        try:
            return len(os.listdir(self._full(folder)))  # noqa: PTH208  # cheaper
        except OSError as error:
            raise source_error(error, folder) from None

    def size(self, path: str) -> int:
        """What the path tells as its size, 0 when it is not there."""
        try:
            return os.stat(self._full(path)).st_size  # noqa: PTH116  # no Path object per read
        except OSError:
            return 0

    def resolve(self, path: str) -> str:
        """Where a link under the root leads, as a path relative to the root.

        Raises:
            SourceError: it leads nowhere or out of the root.
        """
        real = os.path.realpath(self._full(path))
        root = os.path.realpath(self.root)
        if os.path.commonpath([real, root]) != root or not os.path.exists(real):  # noqa: PTH110
            raise SourceError(Reason.ABSENT, f"{path}: leads to nothing under the root")
        return os.path.relpath(real, root)

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}"


def _natural(name: str) -> tuple[tuple[int, str, int], ...]:
    """Sort key under which hwmon10 follows hwmon9."""
    parts: list[tuple[int, str, int]] = []
    word = ""
    number = ""
    for character in name + "\0":
        if character.isdigit():
            number += character
            continue
        if number:
            parts.append((1, word, int(number)))
            word = number = ""
        word += character
    parts.append((0, word, 0))
    return tuple(parts)
