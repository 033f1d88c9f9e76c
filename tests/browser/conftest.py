"""What tests that draw need: the browser, the npm tree, and something to look at."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.browser.draw import DrawError, draw, missing, prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.browser.reports import Report


@pytest.fixture(scope="session")
def drawing() -> Callable[..., list[Report]]:
    """`draw`, installed and bundled; skips, or fails where nothing may be missing."""
    reason = missing()
    try:
        if not reason:
            prepare()
    except DrawError as error:
        reason = str(error)
    if reason and os.environ.get("JOULEFLOOR_REQUIRE_PEERS") == "1":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    return draw
