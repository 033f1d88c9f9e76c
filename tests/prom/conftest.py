"""The real servers that rules and scrapes are tested against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.prom.required import NEWEST_FIRST, require

if TYPE_CHECKING:
    from stack.programs import Program

MAJORS = (2, 3)


@pytest.fixture(scope="session")
def prometheus2() -> Program:
    """Prometheus 2.x, as Debian 12 ships it."""
    return require("prometheus", major=2)


@pytest.fixture(scope="session")
def prometheus3() -> Program:
    """Prometheus 3.x, the current line."""
    return require("prometheus", major=3)


@pytest.fixture(scope="session", params=MAJORS, ids="prometheus{}".format)
def prometheus(request: pytest.FixtureRequest) -> Program:
    """Both lines of Prometheus, one after the other."""
    return require("prometheus", major=int(request.param))


@pytest.fixture(scope="session", params=MAJORS, ids="promtool{}".format)
def promtool(request: pytest.FixtureRequest) -> Program:
    """The rule tester of both lines, one after the other."""
    return require("promtool", major=int(request.param))


@pytest.fixture(scope="session")
def victoriametrics() -> Program:
    """VictoriaMetrics, the newest at hand."""
    return require("victoriametrics", places=NEWEST_FIRST)


@pytest.fixture(scope="session")
def vmalert() -> Program:
    """The rule evaluator of VictoriaMetrics."""
    return require("vmalert", places=NEWEST_FIRST)


@pytest.fixture(scope="session")
def alertmanager() -> Program:
    """Alertmanager."""
    return require("alertmanager")


@pytest.fixture(scope="session")
def amtool() -> Program:
    """The configuration tester of Alertmanager."""
    return require("amtool")


@pytest.fixture(scope="session")
def node_exporter() -> Program:
    """node_exporter, the peer of every comparison."""
    return require("node_exporter")
