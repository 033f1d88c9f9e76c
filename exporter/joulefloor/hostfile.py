"""A machine as one text file: what `joulefloor capture` writes and the tests expand.

The form is line by line, so that a diff can be read:

    joulefloor-host 1
    # comment
    dir  sys/class/thermal
    link sys/class/powercap/intel-rapl:0 ../../devices/virtual/powercap/intel-rapl/intel-rapl:0
    file sys/devices/virtual/powercap/intel-rapl/intel-rapl:0/energy_uj 0400
      262143328850
    hex  sys/firmware/blob 00ff10

Content lines of a file are indented by two spaces; each ends in a newline when expanded. The mode
is octal and optional (0444). Paths are relative to the root and may not climb out of it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from joulefloor.errors import JoulefloorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MAGIC = "joulefloor-host 1"
DEFAULT_MODE = 0o444


class EntryKind(StrEnum):
    """What stands at a path."""

    DIR = "dir"
    LINK = "link"
    FILE = "file"
    HEX = "hex"


class Entry(NamedTuple):
    """One path of a recorded machine; `content` is the link's target for a link."""

    kind: EntryKind
    path: str
    content: bytes = b""
    mode: int = DEFAULT_MODE


class HostFileError(JoulefloorError):
    """The text is not a host file; the message names line and reason."""


def parse(text: str) -> tuple[Entry, ...]:
    """Entries of a host file, in order.

    Raises:
        HostFileError: unknown keyword, path out of the root, missing header.
    """
    lines = text.splitlines()
    if not lines or lines[0].strip() != MAGIC:
        raise HostFileError(f"line 1: expected {MAGIC!r}")
    entries: list[Entry] = []
    for number, line in enumerate(lines[1:], start=2):
        if line.startswith("  "):
            if not entries or entries[-1].kind is not EntryKind.FILE:
                raise HostFileError(f"line {number}: content without a file above it")
            last = entries[-1]
            entries[-1] = last._replace(content=last.content + line[2:].encode() + b"\n")
        elif line.strip() and not line.startswith("#"):
            entries.append(_entry(line.split(), number))
    return tuple(entries)


def _entry(words: list[str], number: int) -> Entry:
    try:
        kind = EntryKind(words[0])
        path = words[1]
        if path.startswith("/") or ".." in path.split("/"):
            raise HostFileError(f"line {number}: {path} leaves the root")
        if kind is EntryKind.LINK:
            return Entry(kind, path, words[2].encode())
        if kind is EntryKind.HEX:
            return Entry(kind, path, bytes.fromhex(words[2] if len(words) > 2 else ""))  # noqa: PLR2004  # third word
        mode = int(words[2], 8) if len(words) > 2 else DEFAULT_MODE  # noqa: PLR2004  # third word
    except (ValueError, IndexError):
        raise HostFileError(
            f"line {number}: expected dir PATH, link PATH TARGET, file PATH [MODE] or hex PATH HEX"
        ) from None
    return Entry(kind, path, b"", mode)


def render(entries: Iterable[Entry]) -> str:
    """The text of which `parse` gives the same entries again."""
    return "\n".join([MAGIC, *(line for entry in entries for line in _lines(entry))]) + "\n"


def _lines(entry: Entry) -> Iterator[str]:
    if entry.kind is EntryKind.LINK:
        yield f"link {entry.path} {entry.content.decode()}"
    elif entry.kind is EntryKind.DIR:
        yield f"dir {entry.path}"
    elif _is_plain(entry.content):
        mode = "" if entry.mode == DEFAULT_MODE else f" {entry.mode:04o}"
        yield f"file {entry.path}{mode}"
        for line in entry.content.decode().splitlines():
            yield f"  {line}"
    else:
        yield f"hex {entry.path} {entry.content.hex()}"


def _is_plain(content: bytes) -> bool:
    """Whether a `file` entry gives exactly this content back."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return False
    return text == "".join(f"{line}\n" for line in text.splitlines())


def expand(entries: Iterable[Entry], root: Path) -> None:
    """Lay the machine out below `root`, which must exist.

    Raises:
        OSError: the file system refuses.
    """
    for entry in entries:
        target = root / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind is EntryKind.DIR:
            target.mkdir(exist_ok=True)
        elif entry.kind is EntryKind.LINK:
            target.symlink_to(entry.content.decode())
        else:
            target.write_bytes(entry.content)
            target.chmod(entry.mode)
