"""Snapshot to text: the Prometheus text format 0.0.4 and OpenMetrics 1.0.0, and a Collector.

Everything about a line but its value is prepared once per Layout (which changes when series come
or go), so that a scrape only turns numbers into text and joins. The output equals the encoder of
prometheus-client byte for byte; a property test holds that.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from joulefloor.catalogue import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client import Metric as ClientMetric

    from joulefloor.catalogue import Metric
    from joulefloor.model import Family, Layout, Snapshot

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
GZIP_LEVEL = 1
"""Level 9 costs five times the CPU for a quarter fewer bytes."""
_GZIP_WINDOW = 31
_EXPONENT_FROM = 1e6
"""From here on Go, and so the reference encoder, writes an exponent."""
_SHORTEST = 7
"""Digits of that number."""
_EXPONENTS = tuple(f"e+{digits - 1:02d}" for digits in range(18))
"""By number of digits before the point; Python writes larger numbers with an exponent itself."""


class _Prepared:
    """A family's fixed text: the head, and what stands before each value; and its last text.

    The newline that ends a line is at the beginning of the next one.
    """

    __slots__ = ("_head", "_prefixes", "_start", "_stop", "_text", "_values")

    def __init__(self, family: Family, *, openmetrics: bool) -> None:
        """Nothing is rendered yet."""
        metric = family.metric
        self._head = _head(metric, openmetrics=openmetrics)
        self._prefixes = tuple(
            f"\n{metric.name}{_labels(metric, labels)} " for labels in family.series
        )
        self._start, self._stop = family.start, family.start + len(family.series)
        self._values: tuple[float | None, ...] = ()
        self._text = ""

    def text(self, every_value: tuple[float | None, ...]) -> str:
        """Head and lines of the series that are present; empty if none is."""
        values = every_value[self._start : self._stop]
        if values != self._values:
            self._values = values
            self._text = self._present(values) if None in values else self._whole(values)  # type: ignore[arg-type]  # none is None here
        return self._text

    def _whole(self, values: Sequence[float]) -> str:
        lines = [self._head, *[""] * (2 * len(values)), "\n"]
        lines[1:-1:2] = self._prefixes
        lines[2:-1:2] = _numbers(values)
        return "".join(lines)

    def _present(self, values: Sequence[float | None]) -> str:
        """The slower way, for a family of which some series are absent now."""
        lines = "".join(
            [
                prefix + number(value)
                for prefix, value in zip(self._prefixes, values, strict=True)
                if value is not None
            ]
        )
        return f"{self._head}{lines}\n" if lines else ""


class Renderer:
    """Renders the newest snapshot once per tick, format and encoding, for all scrapers."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        """`snapshot` gives the newest one."""
        self._snapshot = snapshot
        self._layouts: dict[bool, tuple[Layout, tuple[_Prepared, ...]]] = {}
        self._bodies: dict[tuple[bool, bool], bytes] = {}
        self._seq = -1

    def body(self, *, openmetrics: bool, compressed: bool) -> bytes:
        """The exposition as bytes; the same bytes for every call within a tick."""
        snapshot = self._snapshot()
        if snapshot.seq != self._seq:
            self._bodies.clear()
            self._seq = snapshot.seq
        key = (openmetrics, compressed)
        body = self._bodies.get(key)
        if body is None:
            pieces = self._render(snapshot, openmetrics)
            body = gzipped(pieces) if compressed else "".join(pieces).encode()
            self._bodies[key] = body
        return body

    def _render(self, snapshot: Snapshot, openmetrics: bool) -> list[str]:  # noqa: FBT001  # private
        """The text in pieces: one large string would cost page faults for each scrape."""
        layout, prepared = self._layouts.get(openmetrics, (None, ()))
        if layout is not snapshot.layout:
            prepared = tuple(
                _Prepared(family, openmetrics=openmetrics) for family in snapshot.layout.families
            )
            self._layouts[openmetrics] = (snapshot.layout, prepared)
        pieces = [family.text(snapshot.values) for family in prepared]
        if openmetrics:
            pieces.append("# EOF\n")
        return pieces


def _numbers(values: Sequence[float]) -> Iterable[str]:
    """Values as the reference encoder writes them, mostly by repr alone."""
    texts = map(repr, values)
    if max(values) < _EXPONENT_FROM:
        return texts
    return [
        text if value < _EXPONENT_FROM else _with_exponent(text)
        for value, text in zip(values, texts, strict=True)
    ]


def number(value: float) -> str:
    """A finite float as Go prints it: an exponent from 1e6 on, else Python's shortest form."""
    return repr(value) if value < _EXPONENT_FROM else _with_exponent(repr(value))


def _with_exponent(text: str) -> str:
    """The shortest form of a number from 1e6 on with its point behind the first digit."""
    whole, _, fraction = text.partition(".")
    if len(whole) < _SHORTEST:
        return text
    exponent = _EXPONENTS[len(whole)]
    if fraction == "0":
        return f"{whole[0]}.{whole[1:]}".rstrip("0.") + exponent
    return f"{whole[0]}.{whole[1:]}{fraction}{exponent}"


def _head(metric: Metric, *, openmetrics: bool) -> str:
    """HELP, TYPE and, in OpenMetrics, UNIT; there a counter's family has no `_total`."""
    name, kind = metric.name, str(metric.kind)
    text = metric.help.replace("\\", r"\\").replace("\n", r"\n")
    if not openmetrics:
        kind = "gauge" if metric.kind is Kind.INFO else kind
        return f"# HELP {name} {text}\n# TYPE {name} {kind}"
    text = text.replace('"', r"\"")
    name = family_name(metric)
    unit = f"\n# UNIT {name} {metric.unit}" if _has_unit(metric) else ""
    return f"# HELP {name} {text}\n# TYPE {name} {kind}{unit}"


def family_name(metric: Metric) -> str:
    """Name of the OpenMetrics family: without `_total` or `_info`."""
    if metric.kind is Kind.COUNTER:
        return metric.name.removesuffix("_total")
    return metric.name.removesuffix("_info") if metric.kind is Kind.INFO else metric.name


def _has_unit(metric: Metric) -> bool:
    """OpenMetrics allows a unit only if the family's name ends in it."""
    return bool(metric.unit) and family_name(metric).endswith(f"_{metric.unit}")


def _labels(metric: Metric, values: tuple[str, ...]) -> str:
    if not values:
        return ""
    pairs = sorted(zip(metric.labels, values, strict=True))
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def gzipped(pieces: Iterable[str]) -> bytes:
    """One gzip member without a time stamp, so that equal text gives equal bytes."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    packed = [packer.compress(piece.encode()) for piece in pieces]
    packed.append(packer.flush())
    return b"".join(packed)


class Collector:
    """Offers snapshots to a prometheus-client registry, for embedding and for tests."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        """`snapshot` gives the newest one."""
        self._snapshot = snapshot

    def collect(self) -> Iterator[ClientMetric]:
        """Families of prometheus-client with the samples of the newest snapshot."""
        from prometheus_client import Metric as Family  # noqa: PLC0415  # 14 MiB, never in the daemon

        families: dict[str, Family] = {}
        for metric, labels, value in self._snapshot().samples():
            name = family_name(metric)
            unit = metric.unit if _has_unit(metric) else ""
            family = families.setdefault(
                metric.name, Family(name, metric.help, str(metric.kind), unit)
            )
            family.add_sample(metric.name, dict(zip(metric.labels, labels, strict=True)), value)
        yield from families.values()
