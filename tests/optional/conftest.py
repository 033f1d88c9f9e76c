"""The real servers, as the tests of rules find them."""

from __future__ import annotations

from tests.prom.conftest import prometheus

__all__ = ["prometheus"]
