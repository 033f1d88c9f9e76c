"""What can go wrong, as a closed set that people can look up.

    JoulefloorError
    +-- SourceError(reason, detail)   a source, or one of its channels, gave nothing
    +-- ConfigError(problems)         the configuration cannot be used; exit code 2
    +-- StartError(message)           the daemon cannot start; exit code 2

Each Reason is a label value of `joulefloor_source_errors_total`, has a paragraph in the runbook
and, for people, one sentence in `MEANING`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """Why there is no reading."""

    ABSENT = "ABSENT"
    DENIED = "DENIED"
    LATE = "LATE"
    GARBLED = "GARBLED"
    LOST = "LOST"
    UNSUPPORTED = "UNSUPPORTED"
    BUG = "BUG"


MEANING = {
    Reason.ABSENT: "this machine does not offer it",
    Reason.DENIED: "it exists but the daemon may not read it",
    Reason.LATE: "the read did not return within its deadline",
    Reason.GARBLED: "the answer is not a number in the documented form or range",
    Reason.LOST: "it was there and stopped answering",
    Reason.UNSUPPORTED: "the device says that it does not measure this",
    Reason.BUG: "the source failed in a way its author did not foresee; the log has the traceback",
}


class JoulefloorError(Exception):
    """Root of every error that joulefloor raises on purpose."""


class SourceError(JoulefloorError):
    """A source or a channel gave nothing, with the reason and what a person needs to mend it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        """Keep both for labels, logs and the status page."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Problem(NamedTuple):
    """One thing wrong with the configuration: where it is and how to mend it."""

    where: str
    what: str

    def __str__(self) -> str:
        """One line for the terminal."""
        return f"{self.where}: {self.what}"


class ConfigError(JoulefloorError):
    """Every problem of a configuration at once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        """Keep the problems in the order of the file."""
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class StartError(JoulefloorError):
    """The daemon cannot start: one message that names the place and the fix."""
