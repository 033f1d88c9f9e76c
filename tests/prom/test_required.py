"""What a missing server means: a skip with its reason, or a failure where all are required."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.prom.required import require

if TYPE_CHECKING:
    from stack.programs import Program


def test_a_missing_server_skips_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOULEFLOOR_REQUIRE_PEERS", raising=False)

    with pytest.raises(pytest.skip.Exception, match=r"prometheus 3\.x is not on this machine"):
        require("prometheus", major=3, places=())


def test_a_missing_server_fails_where_all_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOULEFLOOR_REQUIRE_PEERS", "1")

    with pytest.raises(pytest.fail.Exception, match=r"tests/install\.sh brings it"):
        require("vmalert", places=())


def test_each_fixture_is_of_the_line_it_names(
    prometheus2: Program, prometheus3: Program, promtool: Program
) -> None:
    assert (prometheus2.major, prometheus3.major) == (2, 3)
    assert promtool.major in {2, 3}
