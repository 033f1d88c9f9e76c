"""The real servers, as the tests of rules find them."""

from __future__ import annotations

from tests.prom.conftest import prometheus, prometheus2, prometheus3

__all__ = ["prometheus", "prometheus2", "prometheus3"]
