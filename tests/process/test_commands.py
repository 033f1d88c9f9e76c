"""sources, check-config, capture and measure, as a person at a terminal uses them."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

from joulefloor.hostfile import parse
from joulefloor.reference import configuration, metrics
from stack.programs import ROOT
from tests.machine import HOSTS, Machine
from tests.process.conftest import joulefloor

if TYPE_CHECKING:
    from pathlib import Path


def test_sources_shows_what_is_there_what_is_not_and_why(tmp_path: Path) -> None:
    machine = Machine(tmp_path, host_file="intel-2s")
    ended = joulefloor("sources", f"--path.rootfs={machine.root}")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^rapl: up, \d+ channels$", ended.stdout, re.MULTILINE)
    assert re.search(r"^links: absent$", ended.stdout, re.MULTILINE)
    rows = json.loads(joulefloor("sources", f"--path.rootfs={tmp_path}", "--output=json").stdout)
    assert {row["source"] for row in rows} >= {"rapl", "hwmon", "cpu"}


def test_check_config_is_content_with_a_good_file(tmp_path: Path) -> None:
    file = tmp_path / "joulefloor.yaml"
    file.write_text("sources: {hwmon: {enabled: false}}\n")
    ended = joulefloor("check-config", file)
    assert ended.returncode == 0
    assert "hwmon" not in ended.stdout


@pytest.mark.parametrize("host", ["intel-2s", "grace-c2", "amd-epyc"])
def test_a_captured_machine_reads_like_the_machine_itself(host: str, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = Machine(tmp_path / "one", host_file=host)
    file = tmp_path / "captured.host"
    ended = joulefloor("capture", file, f"--path.rootfs={one.root}")
    assert ended.returncode == 0, ended.stderr
    two = Machine(tmp_path / "two", text=file.read_text())
    first, second = (
        joulefloor("sources", f"--path.rootfs={machine.root}").stdout for machine in (one, two)
    )
    assert first == second
    assert first.count("up") >= 3


def test_capture_masks_what_identifies_a_machine(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write("proc/stat", "cpu  1 0 1 9 0 0 0 0 0 0\ncpu0 1 0 1 9 0 0 0 0 0 0")
    machine.write("proc/cpuinfo", "Serial\t\t: 00000000abcdef01\nHardware: 52:54:00:12:34:56")
    text = joulefloor("capture", "-", f"--path.rootfs={machine.root}").stdout
    assert "abcdef01" not in text
    assert "52:54:00" not in text
    assert parse(text)


def test_capture_of_nothing_says_so(tmp_path: Path) -> None:
    ended = joulefloor("capture", "-", f"--path.rootfs={tmp_path}")
    assert ended.returncode == 2
    assert "no file of a machine" in ended.stderr


class TestMeasure:
    """`joulefloor measure -- CMD`."""

    def test_the_exit_code_passes_through_and_stdout_is_the_commands(self) -> None:
        code = "import sys; print('mine'); sys.exit(3)"
        ended = joulefloor("measure", "--", sys.executable, "-c", code)
        assert ended.returncode == 3
        assert ended.stdout == "mine\n"
        assert "s elapsed" in ended.stderr

    def test_a_signal_and_a_missing_command_give_the_shells_codes(self) -> None:
        kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        assert joulefloor("measure", "--", sys.executable, "-c", kill).returncode == 137
        ended = joulefloor("measure", "--", "no-such-command")
        assert ended.returncode == 127
        assert "command not found" in ended.stderr

    def test_joules_are_what_the_counters_counted(self, tmp_path: Path) -> None:
        """The command itself moves the counters of its machine by 100 J."""
        machine = Machine(tmp_path, host_file="amd-epyc")
        code = (
            "import pathlib; p = pathlib.Path('"
            + str(tmp_path / "sys/devices/virtual/powercap/intel-rapl/intel-rapl:0/energy_uj")
            + "'); p.chmod(0o600); v = int(p.read_text()); f = p.open('r+')\n"
            "f.write(str(v + 100_000_000)); f.close()"
        )
        config = tmp_path / "c.yaml"
        config.write_text("sources: {model: {enabled: false}}\n")
        out = tmp_path / "report.json"
        ended = joulefloor(
            "measure", f"--config.file={config}", f"--path.rootfs={machine.root}", "--output=json",
            f"--output.file={out}", "--", sys.executable, "-c", code,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        report = json.loads(out.read_text())
        (row,) = [row for row in report["spent"] if row["device"] == "package-0"]
        assert row["joules"] == pytest.approx(100)
        assert row["method"] == "measured"
        assert row["mean_watts"] == pytest.approx(100 / report["seconds"])
        assert report["command_cpu_seconds"] > 0

    def test_a_machine_without_meters_is_modelled_and_says_so(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, host_file="vm-cloud-xeon")
        ended = joulefloor(
            "measure", f"--path.rootfs={machine.root}", "--", sys.executable, "-c", "pass"
        )
        assert ended.returncode == 0
        assert "modelled (model)" in ended.stderr


def test_help_and_version_name_the_program() -> None:
    assert "Landauer" in joulefloor("--help").stdout
    assert re.fullmatch(r"joulefloor, version \d+\.\d+\.\d+\n", joulefloor("--version").stdout)


@pytest.mark.parametrize(("name", "text"), [("METRICS.md", metrics), ("CONFIG.md", configuration)])
def test_generated_documents_are_fresh(name: str, text: object) -> None:
    """Run `make generate` when this fails."""
    assert callable(text)
    assert (ROOT / "exporter" / name).read_text() == text()


def test_every_machine_says_what_it_is() -> None:
    for path in HOSTS.glob("*.host"):
        assert path.read_text().splitlines()[1].startswith("# "), path
