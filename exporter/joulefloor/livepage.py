"""The live page as HTML: a machine's power at a glance, for the engineer on call.

Drawn here and nowhere else: the page's script only fetches the changing part anew and puts in place
what differs. Readable without the script, on a phone, and by a screen reader.
"""

from __future__ import annotations

import binascii
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from joulefloor.notices import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from joulefloor.notices import Notice
    from joulefloor.status import ComponentPower, Power, SourceState, Status, Temperature

_ESCAPES: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
)
_MINUS: Final = "\N{MINUS SIGN}"
_UNKNOWN: Final = "\N{EN DASH}"
_STATES: Final = ("down", "faulty", "up", "waiting", "absent")
_KWH_FROM_JOULES: Final = 360_000
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def escape(words: str) -> str:
    """Make text safe between tags and inside quoted attributes."""
    return words.translate(_ESCAPES)


@cache
def _template() -> str:
    return Path(__file__).with_name("page.html").read_text(encoding="utf-8")


def whole_page(title: str, content: str) -> tuple[str, str]:
    """Wrap the content; returns the page and the Content-Security-Policy to send with it."""
    nonce = binascii.b2a_hex(os.urandom(16)).decode()
    page = _template().replace("%NONCE%", nonce).replace("%TITLE%", escape(title))
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return page.replace("%CONTENT%", content), policy


def draw(status: Status, telemetry_path: str) -> str:
    """Draw everything that changes."""
    loud = [notice for notice in status.warnings if notice.severity is not Severity.INFO]
    quiet = [notice for notice in status.warnings if notice.severity is Severity.INFO]
    return "".join(
        (
            _head(status),
            _notices(loud, "notices", "Warnings"),
            _hero(status.power, status.components),
            _notices(quiet, "remarks", "About these numbers"),
            _components(status.components),
            _temperatures(status.temperatures),
            _sources(status.sources, status.time_unix_seconds),
            _foot(status, telemetry_path),
        )
    )


def draw_missing(path: str, known: Iterable[str]) -> str:
    """Draw the page for a path that does not exist."""
    links = "".join(f'<li><a href="{escape(link)}">{escape(link)}</a></li>' for link in known)
    return (
        '<section class="card missing"><h1>Nothing is here</h1>'
        f"<p><code>{escape(path)}</code> does not exist. What does:</p><ul>{links}</ul></section>"
    )


def _head(status: Status) -> str:
    return (
        '<header><svg class="mark" viewBox="0 0 32 32" aria-hidden="true"><use href="#mark"/></svg>'
        f'<div><h1>{escape(status.host)}</h1><p class="quiet">joulefloor {escape(status.version)}, '
        f'up {duration(status.uptime_seconds)}</p></div><p class="pulse" data-keep '
        'role="status"></p></header>'
    )


def _notices(notices: Sequence[Notice], kind: str, heading: str) -> str:
    rows = "".join(
        f'<li class="{notice.severity}"><b>{escape(notice.source)}</b> '
        f"<span>{escape(notice.text)}</span></li>"
        for notice in notices
    )
    hidden = "" if notices else " hidden"
    return f'<section class="{kind}" aria-label="{heading}"{hidden}><ul>{rows}</ul></section>'


def _hero(power: Power, components: Sequence[ComponentPower]) -> str:
    number, unit = _split(watts(power.watts))
    known = "" if power.watts is None else f"{power.watts:.6g}"
    badge = _badge(power.method) if power.method else ""
    basis = escape(power.basis) if power.basis else "no power is known"
    return (
        f'<section class="card hero" aria-label="Power now" data-watts="{known}">'
        '<div class="now"><p class="label">Power now</p>'
        f'<p class="big"><span id="watts">{number}</span> <small>{unit}</small></p>'
        f'<p class="basis">{badge} <span class="quiet">{basis}</span></p></div>'
        '<figure class="trend" data-keep hidden></figure>'
        f"{_split_bar(power, components)}</section>"
    )


def _split_bar(power: Power, components: Sequence[ComponentPower]) -> str:
    """Draw idle and work as shares of the total; the rest is what cannot be told apart."""
    total = power.watts
    if not total or power.static_watts is None or power.dynamic_watts is None:
        words = "Idle power is learned in quiet minutes." if components else ""
        return f'<p class="split quiet">{words}</p>' if words else ""
    rest = max(0.0, total - power.static_watts - power.dynamic_watts)
    whole = power.static_watts + power.dynamic_watts + rest
    parts = (
        ("static", "idle", power.static_watts),
        ("dynamic", "work", power.dynamic_watts),
        ("rest", "not split", rest),
    )
    shown = [part for part in parts if part[2] >= whole / 1_000]
    legend = "".join(
        f'<li class="{kind}"><i></i>{name} <b>{watts(value)}</b></li>'
        for kind, name, value in shown
    )
    bar = _bar([(kind, value / whole) for kind, _, value in shown])
    return f'<div class="split">{bar}<ul class="legend">{legend}</ul></div>'


def _bar(parts: Iterable[tuple[str, float]]) -> str:
    """Draw shares (0 to 1) as one bar. SVG, since the page's policy forbids inline styles."""
    rects = []
    start = 0.0
    for kind, share in parts:
        width = 100 * min(max(share, 0.0), 1.0)
        rects.append(f'<rect class="{kind}" x="{start:.2f}" width="{width:.2f}" height="1"/>')
        start += width
    drawn = "".join(rects)
    return (
        '<svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
        f"{drawn}</svg>"
    )


def _components(components: Sequence[ComponentPower]) -> str:
    if not components:
        return ""
    largest = max((row.watts or 0.0 for row in components), default=0.0) or 1.0
    rows = "".join(_component(row, largest) for row in components)
    return (
        '<section class="card"><h2>Components</h2><table class="components"><thead><tr>'
        '<th scope="col">Component</th><th scope="col"><span class="aside">Share</span></th>'
        '<th scope="col" class="number">Power</th><th scope="col" class="number">In use</th>'
        '<th scope="col" class="number">Since start</th><th scope="col">Method</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _component(row: ComponentPower, largest: float) -> str:
    power = row.watts or 0.0
    idle = min(power, row.static_watts) if row.static_watts is not None else 0.0
    split = row.static_watts is not None
    parts = [
        ("static", idle / largest),
        ("dynamic" if split else "whole", (power - idle) / largest),
    ]
    limit = "" if row.limit_watts is None else f"<small>of {watts(row.limit_watts)}</small>"
    use = _UNKNOWN if row.utilization is None else f"{100 * row.utilization:.0f} %"
    silent = ' class="silent"' if row.watts is None else ""
    return (
        f'<tr{silent}><th scope="row"><b>{escape(row.component)}</b> '
        f"<span>{escape(row.device)}</span></th>"
        f'<td class="gauge">{_bar(parts)}</td>'
        f'<td class="number power">{watts(row.watts)}{limit}</td>'
        f'<td class="number use">{use}</td><td class="number energy">{energy(row.joules)}</td>'
        f'<td class="method">{_badge(row.method)} <span class="quiet">{escape(row.source)}</span>'
        "</td></tr>"
    )


def _temperatures(temperatures: Sequence[Temperature]) -> str:
    if not temperatures:
        return ""
    tiles = "".join(
        f"<li><b>{number(row.celsius, 1)} °C</b><span>{escape(row.component)} "
        f"{escape(row.device)}</span><small>{escape(row.sensor)}</small></li>"
        for row in temperatures
    )
    return f'<section class="card"><h2>Temperatures</h2><ul class="tiles">{tiles}</ul></section>'


def _sources(sources: Sequence[SourceState], now_unix_s: float) -> str:
    ordered = sorted(sources, key=lambda source: (_STATES.index(_state(source)), source.name))
    rows = "".join(_source(source, now_unix_s) for source in ordered)
    if not rows:
        return ""
    return (
        '<section class="card"><h2>Sources</h2><table class="sources"><thead><tr>'
        '<th scope="col">Source</th><th scope="col">State</th><th scope="col">Why</th>'
        '<th scope="col" class="number">Readings</th><th scope="col" class="number">Took</th>'
        f'<th scope="col" class="number">Last good</th></tr></thead><tbody>{rows}</tbody></table>'
        "</section>"
    )


def _state(source: SourceState) -> str:
    return "faulty" if source.state == "up" and source.faults else source.state


def _source(source: SourceState, now_unix_s: float) -> str:
    state = _state(source)
    words = {"faulty": f"up, {len(source.faults)} missing"}.get(state, state)
    reason, detail = source.reason, source.detail
    if state == "faulty":
        reason, detail = source.faults[0].reason, source.faults[0].detail
    tag = f'<code title="reason">{escape(reason)}</code> ' if reason else ""
    last = source.last_success_unix_seconds
    age = _UNKNOWN if last is None else f"{duration(max(0.0, now_unix_s - last))} ago"
    took = _UNKNOWN if state in {"absent", "waiting"} else f"{1_000 * source.read_seconds:.1f} ms"
    return (
        f'<tr class="{state}"><th scope="row">{escape(source.name)}</th>'
        f'<td class="state"><i></i>{words}</td><td class="why">{tag}{escape(detail)}</td>'
        f'<td class="number">{source.channels or _UNKNOWN}</td><td class="number">{took}</td>'
        f'<td class="number">{age}</td></tr>'
    )


def _foot(status: Status, telemetry_path: str) -> str:
    paths = (telemetry_path, "/status", "/healthz", "/readyz")
    links = "".join(
        f'<a href="{escape(path.lstrip("/") or "./")}">{escape(path)}</a>' for path in paths
    )
    return f'<footer><nav>{links}</nav><p class="quiet">tick {status.ticks}</p></footer>'


def _badge(method: str) -> str:
    return f'<span class="badge {escape(method)}">{escape(method)}</span>'


def number(value: float, decimals: int) -> str:
    """Write a number with a real minus sign and a thin space between thousands."""
    written = f"{value:,.{decimals}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return written.replace("-", _MINUS)


def _split(quantity: str) -> tuple[str, str]:
    value, _, unit = quantity.rpartition(" ")
    return (value, unit) if value else (quantity, "W")


def watts(value: float | None) -> str:
    """Write a power with three significant digits or so; a dash if it is not known."""
    if value is None:
        return _UNKNOWN
    size = abs(value)
    if size >= 10_000:  # noqa: PLR2004  # from here on kilowatts read better
        return f"{number(value / 1_000, 1 if size < 1e6 else 0)} kW"  # noqa: PLR2004
    return f"{number(value, 2 if size < 10 else 1 if size < 100 else 0)} W"  # noqa: PLR2004


def energy(joules: float | None) -> str:
    """Write an energy in joules, kilojoules or kilowatt-hours; a dash if it is not known."""
    if joules is None:
        return _UNKNOWN
    if joules >= _KWH_FROM_JOULES:
        kwh = joules / 3.6e6
        return f"{number(kwh, 2 if kwh < 100 else 0)} kWh"  # noqa: PLR2004
    if joules >= 1_000:  # noqa: PLR2004
        return f"{number(joules / 1_000, 1)} kJ"
    return f"{number(joules, 0)} J"


def duration(seconds: float) -> str:
    """Write a time as people say it: its two largest units."""
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"
