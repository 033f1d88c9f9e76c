"""`joulefloor capture`: this machine as one host file, for a bug report or a new test.

What is recorded is what the sources look at: they run once on a Host that remembers every path.
Serial numbers, hardware addresses and long identifiers are masked, and so are the names that people
gave to virtual machines and LXC containers, which stand in paths. Names of pods are not recorded: a
captured node of a cluster knows its pods by UID.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from joulefloor.errors import Reason, SourceError
from joulefloor.host import ATTRIBUTE_BYTES, Host, KeptFile
from joulefloor.hostfile import DEFAULT_MODE, Entry, EntryKind, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from joulefloor.sources import Source

_MAC = re.compile(rb"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", re.IGNORECASE)
_NAMED = re.compile(
    rb"^(\s*(?:serial|uuid|hostname)[^:\n]*:\s*)\S.*$", re.IGNORECASE | re.MULTILINE
)
_IDENTIFIER = re.compile(rb"\b(?=[0-9a-f]*[a-f])[0-9a-f]{12,}\b", re.IGNORECASE)
_LONG_LINES = re.compile(rb"^(?:intr|softirq) .*\n?", re.MULTILINE)
_SECRET_NAMES = re.compile(r"serial|uuid|wwid|address$|asset", re.IGNORECASE)
CAPTURE_BYTES = 1_048_576
_DASH = r"(?:-|\\x2d)"
_GUESTS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(machine-(?:(?:qemu|lxc){_DASH}\d+{_DASH})?)(.+)(\.scope)",
        rf"((?:machine-)?(?:qemu{_DASH}\d+{_DASH})?)(.+)(\.libvirt-(?:qemu|lxc))",
        r"(lxc\.(?:payload|monitor)\.)(.+)()",
    )
)
"""Control groups of machines and containers: what tells their kind, their name, the rest."""


class Recorder(Host):
    """A Host that remembers what was looked at."""

    __slots__ = ("paths",)

    def __init__(self, root: Path) -> None:
        """Nothing was looked at yet."""
        super().__init__(root)
        self.paths: dict[str, None] = {}

    def keep(self, path: str, limit: int = ATTRIBUTE_BYTES) -> KeptFile:
        """Remember the file."""
        self.paths.setdefault(path)
        return super().keep(path, limit)

    def names(self, folder: str) -> list[str]:
        """Remember the folder and what is in it."""
        found = super().names(folder)
        self.paths.setdefault(folder)
        for name in found:
            self.paths.setdefault(f"{folder}/{name}")
        return found

    def has(self, path: str) -> bool:
        """Remember what is there."""
        found = super().has(path)
        if found:
            self.paths.setdefault(path)
        return found

    def resolve(self, path: str) -> str:
        """Remember both ends."""
        real = super().resolve(path)
        self.paths.setdefault(path)
        self.paths.setdefault(real)
        return real


def capture(root: Path, build: Callable[[Host], Iterable[Source]]) -> str:
    """Text of the host file; `build` makes the sources that look at the machine.

    Raises:
        SourceError: no source found anything to look at.
    """
    recorder = Recorder(root)
    for source in build(recorder):
        try:
            source.channels()
            source.read()
        except SourceError:
            continue  # what it saw is what there is to record
        finally:
            source.close()
    host = Host(root)
    entries: dict[str, Entry] = {}
    for path in recorder.paths:
        for entry in _record(host, path):
            known = entries.get(entry.path)
            if known is None or known.kind is EntryKind.DIR:
                entries[entry.path] = entry
    if not any(entry.kind in {EntryKind.FILE, EntryKind.HEX} for entry in entries.values()):
        raise SourceError(Reason.ABSENT, f"{root}: no file of a machine below it")
    aliases = _Aliases()
    masked = (aliases.without_names(entry) for entry in entries.values())
    return render(sorted(masked, key=lambda entry: entry.path))


class _Aliases:
    """Calls the guests of a machine guest1, guest2 and so on; one guest by one name throughout."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def without_names(self, entry: Entry) -> Entry:
        """The same entry under a path, and to a target, without names."""
        target = entry.content
        if entry.kind is EntryKind.LINK:
            target = os.fsencode(self._mask(os.fsdecode(target)))
        return entry._replace(path=self._mask(entry.path), content=target)

    def _mask(self, path: str) -> str:
        return "/".join(map(self._mask_name, path.split("/")))

    def _mask_name(self, name: str) -> str:
        found = next(filter(None, (pattern.fullmatch(name) for pattern in _GUESTS)), None)
        if found is None:
            return name
        before, own, after = found.groups()
        return before + self._known.setdefault(own, f"guest{len(self._known) + 1}") + after


def _record(host: Host, path: str) -> Iterator[Entry]:
    """The links on the way to a path, and what really stands there."""
    real = ""
    for name in path.split("/"):
        step = os.path.normpath(f"{real}/{name}").lstrip("/")
        full = host.root / step
        if not full.is_symlink():
            real = step
            continue
        try:
            real = host.resolve(step)
        except SourceError:
            return
        target = os.path.relpath(real, os.path.dirname(step))  # noqa: PTH120  # both are relative
        yield Entry(EntryKind.LINK, step, target.encode())
    if (host.root / real).is_dir():
        yield Entry(EntryKind.DIR, real)
    elif (host.root / real).is_file():
        yield _content(host, real)


def _content(host: Host, path: str) -> Entry:
    kept = host.keep(path, limit=CAPTURE_BYTES)
    try:
        data = kept.read()
    except SourceError as error:
        mode = 0o400 if error.reason is Reason.DENIED else 0o000
        return Entry(EntryKind.FILE, path, b"", mode)
    finally:
        kept.close()
    mode = (host.root / path).stat().st_mode & 0o777
    return Entry(EntryKind.FILE, path, _mask(path, data), DEFAULT_MODE if mode & 0o004 else mode)


def _mask(path: str, data: bytes) -> bytes:
    """Without what identifies the machine, or is long and never read."""
    if _SECRET_NAMES.search(path.rsplit("/", 1)[-1]):
        return b"masked\n"
    data = _NAMED.sub(rb"\g<1>masked", _MAC.sub(b"00:00:00:00:00:00", data))
    data = _LONG_LINES.sub(b"", data)
    return _IDENTIFIER.sub(lambda match: b"0" * len(match[0]), data)
