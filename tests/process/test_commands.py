"""sources, check-config, capture and measure, as a person at a terminal uses them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from joulefloor.hostfile import parse
from joulefloor.reference import configuration, metrics
from stack.programs import ROOT
from stack.query import eventually
from tests.machine import HOSTS, Machine
from tests.nvml.build import compiler
from tests.nvml.scenario import FakeDriver
from tests.patience import PATIENCE_S
from tests.process.conftest import PROGRAM, joulefloor

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


def test_capture_masks_the_names_of_guests_in_paths(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    groups = "sys/fs/cgroup"
    machine.write(f"{groups}/cgroup.controllers", "cpu memory")
    machine.write(f"{groups}/cpu.stat", "usage_usec 100")
    named = (
        r"machine.slice/machine-qemu\x2d3\x2dacme\x2dpayroll.scope",
        r"machine.slice/machine-qemu\x2d4\x2dacme\x2dweb.scope",
        "machine.slice/machine-acme.scope",
        "machine/acme.libvirt-qemu",
        "lxc.payload.acme",
        "lxc.monitor.acme",
    )
    for folder in named:
        machine.write(f"{groups}/{folder}/cpu.stat", "usage_usec 100")
    text = joulefloor("capture", "-", f"--path.rootfs={machine.root}").stdout
    assert "acme" not in text
    (tmp_path / "again").mkdir()
    again = Machine(tmp_path / "again", text=text)
    for guest in ("qemu\\x2d3\\x2dguest", "qemu\\x2d4\\x2dguest", "machine-guest", "payload.guest"):
        assert list(again.root.rglob(f"*{guest}*/cpu.stat")), (guest, text)


@pytest.mark.parametrize("words", [("sources",), ("--help",)])
def test_without_room_for_the_output_it_says_so(words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123  # a device
        ended = subprocess.run(
            [*PROGRAM, *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert ended.returncode == 2
    assert ended.stderr == (
        "joulefloor: standard output cannot be written: No space left on device\n"
    )


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
        assert row["mean_watts"] == pytest.approx(100 / row["metered_seconds"])
        assert row["metered_seconds"] >= report["seconds"]
        assert any("package-1" in why and "did not update" in why for why in report["missing"])
        assert report["command_cpu_seconds"] > 0

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_to_end_is_passed_on_and_the_report_follows(
        self, number: signal.Signals, tmp_path: Path
    ) -> None:
        begun = tmp_path / "begun"
        code = f"import pathlib, signal; pathlib.Path({str(begun)!r}).touch(); signal.pause()"
        process = subprocess.Popen(
            [*PROGRAM, "measure", "--", sys.executable, "-c", code],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert eventually(begun.exists, within_s=PATIENCE_S)
            process.send_signal(number)
            _, told = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
        assert process.returncode == 128 + number
        assert f"exit code {128 + number}" in told
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)

    def test_a_report_that_cannot_be_written_stops_it_before_the_command(
        self, tmp_path: Path
    ) -> None:
        report, ran = tmp_path / "none" / "report", tmp_path / "ran"
        ended = joulefloor("measure", f"--output.file={report}", "--", "touch", ran)
        assert ended.returncode == 2
        assert str(report) in ended.stderr
        assert not ran.exists()

    def test_a_report_for_which_there_is_no_room_is_told_all_the_same(self) -> None:
        ended = joulefloor(
            "measure", "--output.file=/dev/full", "--", sys.executable, "-c", "raise SystemExit(3)"
        )
        assert ended.returncode == 3
        assert "/dev/full: cannot be written: No space left on device" in ended.stderr
        assert "s elapsed" in ended.stderr

    @pytest.mark.parametrize("more", [(), ("--output.file=/dev/full",)])
    def test_the_code_of_the_command_passes_through_where_nothing_can_be_told(
        self, more: tuple[str, ...]
    ) -> None:
        command = ("measure", *more, "--", sys.executable, "-c", "raise SystemExit(3)")
        with open("/dev/full", "w") as full:  # noqa: PTH123  # a device
            ended = subprocess.run(
                [*PROGRAM, *command], stderr=full, timeout=PATIENCE_S, check=False
            )
        assert ended.returncode == 3

    @pytest.mark.skipif(compiler() is None, reason="gcc compiles the fake driver")
    def test_a_gpu_whose_driver_takes_long_to_open_is_measured_from_the_start(
        self, tmp_path: Path
    ) -> None:
        """A GPU at 400 W all the time; its counter moves every 20 ms at most."""
        driver = FakeDriver(tmp_path / "driver")
        driver.gpu(0, "h100-sxm5").set(load=400_000)
        driver.driver.delay("nvmlInit_v2", 1_000)
        driver.write()
        (tmp_path / "root").mkdir()
        machine = Machine(tmp_path / "root", host_file="bare-vm")
        machine.write("dev/nvidiactl", "")
        config = tmp_path / "c.yaml"
        config.write_text(f"sources: {{nvml: {{library_folder: {driver.folder}}}}}\n")
        ended = joulefloor(
            "measure", f"--config.file={config}", f"--path.rootfs={machine.root}", "--output=json",
            "--", sys.executable, "-c", "import select; select.select([], [], [], 1)",
        )  # fmt: skip
        report = json.loads(ended.stderr)
        (row,) = [row for row in report["spent"] if row["component"] == "gpu"]
        assert row["mean_watts"] == pytest.approx(400, rel=0.1)
        assert row["joules"] == pytest.approx(400 * row["metered_seconds"], rel=0.1)
        assert row["metered_seconds"] > 0.9 * report["seconds"]
        assert not any("nvml" in why for why in report["missing"])

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
