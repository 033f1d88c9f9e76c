"""The harness that draws dashboards tells good panels from bad ones."""

from __future__ import annotations

import json
import struct
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from stack.peers import prometheus_config, start_prometheus
from stack.processes import free_port
from stack.query import eventually, instant
from tests.browser.draw import DrawError, main, missing
from tests.browser.reports import complaints
from tests.patience import PATIENCE_S
from tests.prom.required import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.browser.reports import Report

    Draw = Callable[..., list[Report]]

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
TABLE = {"format": "table", "instant": True}
CPU = 'rate(process_cpu_seconds_total{job=~"$job"}[$__rate_interval])'


def panel(kind: str, title: str, *queries: str | dict[str, Any], **rest: Any) -> dict[str, Any]:  # noqa: ANN401  JSON
    """One panel; each query is an expression, or an expression with more fields."""
    targets = [
        {"refId": "ABC"[place], "datasource": SOURCE}
        | (query if isinstance(query, dict) else {"expr": query})
        for place, query in enumerate(queries)
    ]
    empty: dict[str, Any] = {"options": {}, "fieldConfig": {"defaults": {}, "overrides": []}}
    return {"type": kind, "title": title, "datasource": SOURCE, "targets": targets, **empty, **rest}


def field(unit: str = "short", *overrides: dict[str, Any], **custom: object) -> dict[str, Any]:
    return {"defaults": {"unit": unit, "custom": custom}, "overrides": list(overrides)}


def override(name: str, **properties: object) -> dict[str, Any]:
    values = [{"id": key, "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": values}


def legend(mode: str, *calcs: str) -> dict[str, Any]:
    shown = {"displayMode": mode, "placement": "bottom", "showLegend": True, "calcs": list(calcs)}
    return {"legend": shown}


ORGANIZED = [
    {"id": "joinByField", "options": {"byField": "job", "mode": "outer"}},
    {
        "id": "organize",
        "options": {"renameByName": {"job": "Job", "Value #A": "Up", "Value #B": "Memory"}},
    },
    {"id": "sortBy", "options": {"sort": [{"field": "Job", "desc": True}]}},
]
PANELS = [
    panel(
        "timeseries",
        "Stacked",
        {"expr": CPU, "legendFormat": "cpu of {{job}}"},
        fieldConfig=field("percentunit", fillOpacity=30, stacking={"mode": "normal"}),
        options=legend("table", "mean", "max"),
    ),
    panel("stat", "One number", 'count(up{job=~"$job"})', fieldConfig=field("watt")),
    panel(
        "bargauge",
        "Bars",
        {"expr": "process_resident_memory_bytes", "instant": True, "legendFormat": "{{job}}"},
        fieldConfig=field("bytes"),
    ),
    panel(
        "table",
        "Joined",
        {"expr": "sum by (job) (up)", **TABLE},
        {"expr": "sum by (job) (process_resident_memory_bytes)", **TABLE},
        fieldConfig=field("none", override("Memory", unit="bytes")),
        transformations=ORGANIZED,
    ),
    panel("text", "Note", options={"mode": "markdown", "content": "The **step** is $step."}),
    panel("timeseries", "Bad expression", "sum(up"),
    panel("timeseries", "Absent", "no_such_metric"),
    panel("stat", "Absent number", "no_such_metric"),
    panel("stat", "Unknown unit", "up", fieldConfig=field("nosuchunit")),
    panel("stat", "Free unit", "up", fieldConfig=field("suffix:J/inference")),
    panel("timeseries", "Misspelt property", "up", fieldConfig=field("short", linesWidth=2)),
    panel("table", "Misspelt step", {"expr": "up", **TABLE}, transformations=[{"id": "organise"}]),
    panel("heatmap", "Not drawable", "up"),
    panel(
        "timeseries",
        "Long names",
        {"expr": "up", "legendFormat": "{{job}} " + "that goes on " * 30},
        options=legend("table"),
    ),
    panel("timeseries", "Windows", "increase(up[$step]) + vector($__range_s)"),
    panel(
        "timeseries",
        "Near the floor",
        "up * 2.87e-21",
        fieldConfig=field("sci", scaleDistribution={"type": "log", "log": 10}),
    ),
]


def query_variable(name: str, query: str, **rest: object) -> dict[str, Any]:
    asked = {"query": query, "refId": name}
    return {"name": name, "type": "query", "datasource": SOURCE, "query": asked, **rest}


VARIABLES = [
    {"name": "datasource", "type": "datasource", "query": "prometheus"},
    query_variable("job", "label_values(up, job)", multi=True, includeAll=True, allValue=".+"),
    query_variable("nothing", "label_values(no_such_metric, job)"),
    query_variable("broken", "label_value(up, job)"),
    {"name": "step", "type": "interval", "query": "10s,1m", "current": {"value": "1m"}},
    {"name": "mode", "type": "custom", "query": "a,b,c", "current": {"value": "b", "text": "b"}},
    {"name": "find", "type": "textbox", "query": "", "current": {"value": "gpu"}},
]


def dashboard() -> dict[str, Any]:
    places = count()
    panels = [
        {**one, "id": at + 1, "gridPos": {"x": at % 4 * 6, "y": at // 4 * 8, "w": 6, "h": 8}}
        for one, at in zip(PANELS, places, strict=False)
    ]
    row = {
        "type": "row",
        "id": 99,
        "title": "Closed",
        "collapsed": True,
        "gridPos": {"x": 0, "y": 40, "w": 24, "h": 1},
        "panels": [
            {
                **panel("stat", "In a closed row", "up"),
                "id": 98,
                "gridPos": {"x": 0, "y": 41, "w": 6, "h": 4},
            }
        ],
    }
    return {
        "uid": "toy",
        "title": "Toy",
        "schemaVersion": 39,
        "panels": [*panels, row],
        "templating": {"list": VARIABLES},
    }


@pytest.fixture(scope="module")
def prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that has scraped itself under two names often enough for a rate."""
    port = free_port()
    me = [f"127.0.0.1:{port}"]
    config = prometheus_config({"self": me, "other.job": me}, interval_s=1)
    place = tmp_path_factory.mktemp("prometheus")
    with start_prometheus(require("prometheus", major=2), place, config, port=port) as peer:
        assert eventually(
            lambda: instant(peer.url, "count(count_over_time(up[1m]) > 4) == 2"),
            within_s=PATIENCE_S,
        )
        yield peer.url


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("dashboards") / "toy.json"
    file.write_text(json.dumps(dashboard()))
    return file


@pytest.fixture(scope="module")
def drawn(
    drawing: Draw, prometheus_url: str, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> Report:
    out = tmp_path_factory.mktemp("dark")
    (report,) = drawing([source], prometheus_url, out, from_="now-5m", scrape_interval="1s")
    return report


@pytest.fixture(scope="module")
def narrow(
    drawing: Draw, prometheus_url: str, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> Report:
    (report,) = drawing(
        [source],
        prometheus_url,
        tmp_path_factory.mktemp("light"),
        theme="light",
        width=420,
        variables={"job": ["other.job"], "step": "10s"},
        from_="now-10m",
        to="now-5s",
    )
    return report


def size(png: Path) -> tuple[int, int]:
    """Width and height of a PNG, in pixels."""
    width, height = struct.unpack(">II", png.read_bytes()[16:24])
    return width, height


def test_a_good_panel_has_series_and_no_error(drawn: Report) -> None:
    stacked = drawn.panel("Stacked")

    assert stacked.series == 2
    assert stacked.error == ""
    assert stacked.complaints() == []
    assert stacked.legend.texts == ("cpu of other.job", "cpu of self")
    assert stacked.unit_known
    assert all(tick.endswith("%") for tick in stacked.ticks[1])


def test_every_kind_of_panel_shows_values_in_its_unit(drawn: Report) -> None:
    assert drawn.panel("One number").values == ("2 W",)
    assert [value.split()[-1] for value in drawn.panel("Bars").values] == ["MiB", "MiB"]
    joined = drawn.panel("Joined").values
    assert [joined.index(job) for job in ("self", "other.job")] == [0, len(joined) // 2]
    assert any(cell.endswith("MiB") for cell in joined)
    assert drawn.panel("Note").values == ("The step is 1m.",)
    assert drawn.panel("Near the floor").values == ("2.87e-21", "2.87e-21")


def test_a_bad_expression_is_an_error_that_quotes_prometheus(drawn: Report) -> None:
    bad = drawn.panel("Bad expression")

    assert bad.series == 0
    assert "unclosed left parenthesis" in bad.error
    assert not bad.empty


@pytest.mark.parametrize("title", ["Absent", "Absent number"])
def test_an_absent_metric_has_no_series_and_no_error(drawn: Report, title: str) -> None:
    absent = drawn.panel(title)

    assert (absent.series, absent.error, absent.empty) == (0, "", True)
    assert absent.complaints() == ["no data from no_such_metric"]


def test_an_unknown_unit_is_reported_and_a_free_one_is_not(drawn: Report) -> None:
    assert drawn.panel("Unknown unit").unknown_units == ("nosuchunit",)
    assert not drawn.panel("Unknown unit").unit_known
    assert drawn.panel("Free unit").unit_known


def test_what_grafana_would_silently_ignore_is_reported(drawn: Report) -> None:
    assert drawn.panel("Misspelt property").unknown_properties == ("custom.linesWidth",)
    assert drawn.panel("Misspelt step").unknown_transformations == ("organise",)
    assert "heatmap" in drawn.panel("Not drawable").error


def test_a_legend_that_does_not_fit_is_reported(drawn: Report) -> None:
    assert len(drawn.panel("Long names").legend.truncated) == 2
    assert drawn.panel("Stacked").legend.truncated == ()


def test_a_table_that_is_wider_than_its_panel_is_reported(drawn: Report) -> None:
    assert drawn.panel("Joined").wide
    assert not drawn.panel("Bars").wide


def test_a_closed_row_is_opened_and_its_panels_drawn(drawn: Report) -> None:
    assert drawn.panel("In a closed row").series == 2


def test_variables_take_their_values_from_prometheus(drawn: Report) -> None:
    counted = {variable.name: variable.options for variable in drawn.variables}

    assert counted == {
        "datasource": 1,
        "job": 2,
        "nothing": 0,
        "broken": 0,
        "step": 2,
        "mode": 3,
        "find": 1,
    }
    assert drawn.variable("job").text in ("All", ["All"])
    assert (drawn.variable("mode").value, drawn.variable("find").value) == ("b", "gpu")
    assert "label_value(up, job)" in drawn.variable("broken").error


def test_variables_and_intervals_reach_the_queries_as_grafana_writes_them(
    drawn: Report, narrow: Report
) -> None:
    assert drawn.panel("Stacked").queries == ('rate(process_cpu_seconds_total{job=~".+"}[4s])',)
    assert drawn.panel("Windows").queries == ("increase(up[1m]) + vector(300)",)
    assert narrow.panel("Stacked").queries == (
        r'rate(process_cpu_seconds_total{job=~"other\\.job"}[60s])',
    )
    assert narrow.panel("Windows").queries == ("increase(up[10s]) + vector(595)",)


def test_the_picture_shows_the_whole_dashboard(drawn: Report, narrow: Report) -> None:
    assert size(drawn.png) == (1600, drawn.height)
    assert size(narrow.png) == (420, narrow.height)
    assert narrow.height > 3 * drawn.height


def test_the_page_itself_runs_without_errors(drawn: Report, narrow: Report) -> None:
    assert (drawn.complete, narrow.complete) == (True, True)
    assert (drawn.console, narrow.console) == ((), ())


def test_complaints_name_dashboard_panel_and_cause(drawn: Report) -> None:
    found = complaints(drawn)

    assert "Toy: variable nothing: no options" in found
    assert "Toy / Absent: no data from no_such_metric" in found
    assert "Toy / Unknown unit: unknown units ['nosuchunit']" in found
    assert not [line for line in found if "Toy / Stacked" in line]


@pytest.mark.usefixtures("drawing")
def test_the_command_draws_a_folder_and_fails_on_complaints(
    prometheus_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = {"id": 1, "gridPos": {"x": 0, "y": 0, "w": 24, "h": 4}}
    for name, query in (("good", "up"), ("bad", "no_such_metric")):
        content = {"title": name, "panels": [{**panel("stat", "Only", query), **place}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    common = ["--prometheus", prometheus_url, "--out", str(tmp_path / "out"), "--width", "800"]
    # At the default interval a step is longer than what this Prometheus has scraped.
    common += ["--scrape-interval", "1s"]

    assert main([str(tmp_path / "good.json"), *common]) == 0
    assert main([str(tmp_path), *common]) == 1
    said = capsys.readouterr().out
    assert "bad / Only: no data from no_such_metric" in said
    assert size(tmp_path / "out" / "good.png")[0] == 800


def test_a_prometheus_that_is_away_is_an_error_of_every_panel(
    drawing: Draw, source: Path, tmp_path: Path
) -> None:
    (report,) = drawing([source], f"http://127.0.0.1:{free_port()}", tmp_path)

    assert "does not answer" in report.panel("Stacked").error
    assert "does not answer" in report.variable("job").error


def test_a_variable_of_an_unknown_type_stops_the_drawing_and_says_so(
    drawing: Draw, tmp_path: Path
) -> None:
    file = tmp_path / "odd.json"
    odd = {"title": "Odd", "panels": [], "templating": {"list": [{"name": "x", "type": "adhoc"}]}}
    file.write_text(json.dumps(odd))

    with pytest.raises(DrawError, match='variable x: type "adhoc"'):
        drawing([file], "http://127.0.0.1:9", tmp_path)


def test_a_machine_without_a_browser_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert missing() == "drawing needs node and npm and chromium"
