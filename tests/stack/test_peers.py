"""The parts that `make run` and the tests share: finding, starting, stopping, delivering."""

from __future__ import annotations

import queue
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stack.grafana import start_grafana
from stack.peers import (
    prometheus_config,
    rule_files,
    start_alertmanager,
    start_prometheus,
    start_victoriametrics,
    write_config,
)
from stack.processes import LOOPBACK, PeerError, Stopped, free_port, launch
from stack.programs import Program, locate, parse_places, stated_version
from stack.query import QueryError, eventually, fetch, instant, over_range
from stack.receiver import Alert, AlertReceiver
from stack.report import Gap, Meter, word_report
from tests.patience import PATIENCE_S
from tests.prom.required import require

if TYPE_CHECKING:
    from pathlib import Path

STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""
FAKE_GRAFANA = """#!{python}
import http.server, json, os, sys
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({{"arguments": sys.argv[1:], **os.environ}}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
address = ("127.0.0.1", int(os.environ["GF_SERVER_HTTP_PORT"]))
http.server.HTTPServer(address, Health).serve_forever()
"""


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_program_is_found_under_each_name_it_is_shipped_with(tmp_path: Path) -> None:
    script = '#!/bin/sh\necho "alertmanager, version 0.25.0 (branch: x)" >&2\n'
    path = executable(tmp_path / "prometheus-alertmanager", script)

    assert locate("alertmanager", places=[tmp_path]) == Program("alertmanager", path, "0.25.0")
    assert locate("alertmanager", places=[tmp_path], major=1) is None


def test_an_empty_list_of_places_finds_nothing() -> None:
    assert parse_places("") == ()
    assert locate("prometheus", places=()) is None


def test_a_program_that_cannot_run_states_no_version(tmp_path: Path) -> None:
    program = Program("x", tmp_path / "x", stated_version(tmp_path / "x"))

    assert program.version == ""
    assert program.major is None


def test_the_preferred_port_is_taken_only_when_free() -> None:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        busy = other.getsockname()[1]
        assert free_port(busy) != busy
    assert free_port(busy) == busy


def test_only_files_with_rule_groups_are_loaded_as_rules(tmp_path: Path) -> None:
    write_config(tmp_path / "power.yaml", {"groups": [{"name": "power", "rules": []}]})
    write_config(tmp_path / "more.yml", {"groups": []})
    write_config(tmp_path / "alertmanager.yaml", {"route": {"receiver": "x"}})
    write_config(tmp_path / "tests" / "power.yaml", {"groups": []})
    (tmp_path / "empty.yaml").touch()

    assert [path.name for path in rule_files(tmp_path)] == ["more.yml", "power.yaml"]


def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    peer = launch("stubborn", [sys.executable, "-c", STUBBORN], port=9, directory=tmp_path)
    while "up" not in peer.tail():
        assert not peer.died()

    peer.stop(within_s=0.1)

    assert peer.process.returncode == -signal.SIGKILL
    peer.stop()


def test_a_server_that_ends_while_starting_shows_its_last_words(tmp_path: Path) -> None:
    words = "print('no such disk'); raise SystemExit(3)"
    peer = launch("fragile", [sys.executable, "-c", words], port=free_port(), directory=tmp_path)

    with pytest.raises(PeerError, match=r"fragile ended while starting:\nno such disk"):
        peer.await_ready("/")
    assert peer.process.returncode == 3


def test_a_server_that_never_answers_is_stopped_after_its_time(tmp_path: Path) -> None:
    silent = [sys.executable, "-c", "import time; time.sleep(600)"]
    peer = launch("silent", silent, port=free_port(), directory=tmp_path)

    with pytest.raises(PeerError, match=r"silent is not ready after 0\.2 s"):
        peer.await_ready("/", within_s=0.2)
    assert peer.process.returncode is not None


def test_asking_to_stop_ends_the_wait_for_a_server(tmp_path: Path) -> None:
    silent = [sys.executable, "-c", "import time; time.sleep(600)"]
    peer = launch("silent", silent, port=free_port(), directory=tmp_path)
    asked = threading.Event()
    asked.set()

    with pytest.raises(Stopped):
        peer.await_ready("/", stop=asked)
    assert peer.process.returncode is not None


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    peer = launch("nothing", [tmp_path / "nothing"], port=free_port(), directory=tmp_path)

    with pytest.raises(PeerError, match="nothing"):
        peer.await_ready("/")


def test_a_query_that_fails_says_which_server_and_why() -> None:
    port = free_port()
    with pytest.raises(QueryError, match=rf"127\.0\.0\.1:{port}/x did not answer: .*refused"):
        fetch(f"http://{LOOPBACK}:{port}/x")


@pytest.mark.parametrize("major", [2, 3])
def test_an_alert_travels_from_prometheus_through_alertmanager_to_the_receiver(
    tmp_path: Path, major: int
) -> None:
    rule = {
        "alert": "NobodyThere",
        "expr": "up == 0",
        "labels": {"severity": "warning"},
        "annotations": {"summary": "gone"},
    }
    rules = write_config(tmp_path / "r.yml", {"groups": [{"name": "g", "rules": [rule]}]})
    delivered: queue.Queue[Alert] = queue.Queue()
    with (
        AlertReceiver(delivered.put) as receiver,
        start_alertmanager(require("alertmanager"), tmp_path, receiver.config()) as alertmanager,
        start_prometheus(
            require("prometheus", major=major),
            tmp_path,
            prometheus_config(
                {"nobody": [f"{LOOPBACK}:{free_port()}"]},
                interval_s=1,
                rules=[rules],
                alertmanagers=[alertmanager.address],
            ),
            resend_s=1,
        ) as prometheus,
    ):
        alert = delivered.get(timeout=PATIENCE_S)

        assert (alert.status, alert.name) == ("firing", "NobodyThere")
        assert alert.labels["severity"] == "warning"
        assert alert.annotations == {"summary": "gone"}
        assert instant(prometheus.url, "sum(up)")[0]["value"][1] == "0"
        assert instant(prometheus.url, "scalar(vector(2))")[0]["value"][1] == "2"
        moment = {"start_unix_s": 60, "end_unix_s": 90, "step_s": 30}
        answer = over_range(prometheus.url, "vector(time())", **moment)
        assert answer[0]["values"] == [[60, "60"], [90, "90"]]
        with pytest.raises(QueryError, match=r"answered 400: .*parse error"):
            instant(prometheus.url, "sum(")


def test_victoriametrics_takes_samples_and_answers_queries(tmp_path: Path) -> None:
    with start_victoriametrics(require("victoriametrics"), tmp_path) as server:

        def flush_and_ask() -> list[dict[str, Any]]:
            fetch(f"{server.url}/internal/force_flush")
            return instant(server.url, "last_over_time(joules_total[10m])")

        fetch(f"{server.url}/api/v1/import/prometheus", data=b"joules_total 41\n")
        answer = eventually(flush_and_ask, within_s=PATIENCE_S)

    assert [series["value"][1] for series in answer] == ["41"]


def test_grafana_is_started_read_only_over_our_prometheus(tmp_path: Path) -> None:
    script = FAKE_GRAFANA.format(python=sys.executable)
    program = Program("grafana", executable(tmp_path / "grafana-server", script), "")

    with start_grafana(program, tmp_path, "http://127.0.0.1:9090") as grafana:
        seen = fetch(f"{grafana.url}/api/health").decode()

    assert '"PROMETHEUS_URL": "http://127.0.0.1:9090"' in seen
    assert '"GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer"' in seen
    assert '"--homepath=/usr/share/grafana"' in seen


def test_the_report_lists_watts_in_columns_and_wraps_reasons() -> None:
    meters = [
        Meter("cpu", "package-0", 41.256, "measured", "rapl"),
        Meter("whole node", "", 120.0, "measured", "hwmon"),
    ]
    text = word_report(meters, [Gap("nvml", "ABSENT: no libnvidia-ml.so.1")], demo=False)

    assert text.splitlines() == [
        "What this machine draws now",
        "",
        "  component   device      watts  method    source",
        "  cpu         package-0   41.26  measured  rapl",
        "  whole node             120.00  measured  hwmon",
        "",
        "What is not measured, and why",
        "",
        "  nvml       ABSENT: no libnvidia-ml.so.1",
    ]


def test_the_report_of_a_machine_without_watts_says_so() -> None:
    assert "Nothing here reports" in word_report([], [], demo=False)
