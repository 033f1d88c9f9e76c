"""How long tests wait: far longer than what they wait for takes, since machines may be loaded.

A test that passes never waits so long; one that fails may take it.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar
from unittest import mock

from joulefloor import sampler
from stack.query import QueryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S: Final = 90.0
"""For whatever real servers, processes and browsers do by themselves."""
POLL_S: Final = 0.05
Answer = TypeVar("Answer")


def patiently(read: Callable[[], Answer]) -> Answer:
    """Read until the answer is not empty, also where a server is too busy to give one.

    Raises:
        QueryError: it never answered.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        late = time.monotonic() > deadline
        try:
            if (answer := read()) or late:
                return answer
        except QueryError:
            if late:
                raise
        time.sleep(POLL_S)


@contextmanager
def whole_ticks() -> Iterator[None]:
    """Let a tick wait for each source in turn, however slow this machine is.

    A daemon goes on without a source that takes long, which on a still clock is a matter of luck.
    """
    with (
        mock.patch.object(sampler, "TURN_S", PATIENCE_S),
        mock.patch.object(sampler, "GRACE_S", PATIENCE_S),
    ):
        yield
