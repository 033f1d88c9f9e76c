"""What the source of NVIDIA GPUs makes of a driver that goes away and of GPUs that do not return.

The source, its worker process and NVIDIA's binding are the real ones; only the driver is scripted.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from joulefloor.catalogue import COMPONENT_ENERGY, METER_EVENTS, PART_ENERGY
from joulefloor.errors import Reason, SourceError
from joulefloor.sources import nvml
from stack.query import eventually
from tests.nvml.build import compiler
from tests.nvml.scenario import Instance
from tests.patience import PATIENCE_S
from tests.unit.gpus import Rig, reasons_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GCC = compiler()
pytestmark = pytest.mark.skipif(GCC is None, reason="gcc compiles the fake driver")

# The parent of vfork waits in the kernel until its child, which reads its input, has ended.
WAITS_IN_KERNEL = """
#include <unistd.h>
int main(void) {
    char byte;
    if (vfork() == 0) {
        (void)!read(0, &byte, 1);
        _exit(0);
    }
    return 0;
}
"""


@pytest.fixture
def gpus(tmp_path: Path) -> Iterator[Rig]:
    """Two GPUs that have answered; the worker ends with the test."""
    rig = Rig(tmp_path / "rig", "h100-sxm5", "h100-sxm5")
    rig.build(patience=0.2)
    rig.until(lambda batch: not batch.faults)
    yield rig
    rig.source.close()


@pytest.fixture
def older(tmp_path: Path) -> Iterator[Rig]:
    """The same, but the first tells no activity: an instance works while it has a process."""
    rig = Rig(tmp_path / "rig", "a100-sxm4-80gb", "h100-sxm5")
    rig.build()
    rig.until(lambda batch: not batch.faults)
    yield rig
    rig.source.close()


def await_reason(gpus: Rig, reason: Reason) -> None:
    """Read until the first GPU gives nothing, for this reason."""
    gpus.until(lambda batch: reasons_of(batch, gpus.uuid(0)) == {reason})


def unload(gpus: Rig) -> None:
    """The driver goes away, and the worker with it."""
    process = gpus.source.worker._process
    assert process is not None
    process.kill()
    process.wait()
    (gpus.root / "dev" / "nvidiactl").unlink()
    with pytest.raises(SourceError, match="killed by signal 9"):
        gpus.source.read()


def test_a_driver_that_was_there_and_is_unloaded_is_lost(gpus: Rig) -> None:
    unload(gpus)
    for _ in range(2):
        with pytest.raises(SourceError, match="no NVIDIA driver") as caught:
            gpus.source.read()
        assert caught.value.reason is Reason.LOST


def test_devices_that_were_released_are_absent_also_without_a_driver(gpus: Rig) -> None:
    unload(gpus)
    flag = gpus.root / "run" / "joulefloor" / "release-gpus"
    flag.parent.mkdir(parents=True)
    flag.touch()
    with pytest.raises(SourceError, match="release-gpus exists") as caught:
        gpus.source.read()
    assert caught.value.reason is Reason.ABSENT


def test_a_lost_gpu_that_answers_slowly_is_looked_for_by_new_workers_ever_less_often(
    gpus: Rig,
) -> None:
    gpus.gpus[0].set(state="lost")
    for key in ("UUID", "Index"):
        gpus.driver.driver.delay(f"nvmlDeviceGetHandleBy{key}", 600)
    gpus.driver.write()
    pid = gpus.source.worker.pid
    for wait_s in nvml.HEAL_S[:2]:
        await_reason(gpus, Reason.LOST)
        await_reason(gpus, Reason.LATE)
        gpus.clock.leap(wait_s / 2)
        gpus.source.read()
        assert gpus.source.worker.pid == pid
        gpus.clock.leap(wait_s / 2 + 1)
        gpus.source.read()
        assert gpus.source.worker.pid != pid
        pid = gpus.source.worker.pid


def test_a_gpu_whose_call_never_returns_gets_a_new_worker_while_the_other_answers(
    gpus: Rig,
) -> None:
    pid = gpus.source.worker.pid
    gpus.gpus[0].hang("*")
    gpus.driver.write()
    await_reason(gpus, Reason.LATE)
    gpus.clock.leap(nvml.SILENCE_S + 1)
    assert gpus.source.read().readings
    gpus.clock.leap(nvml.HEAL_S[0] - 1)
    assert gpus.source.read().readings
    assert gpus.source.worker.pid == pid
    gpus.gpus[0].heal()
    gpus.driver.write()
    gpus.clock.leap(2)
    gpus.until(lambda batch: not batch.faults)
    assert gpus.source.worker.pid != pid


def test_a_gpu_that_answers_again_is_not_looked_for(gpus: Rig) -> None:
    pid = gpus.source.worker.pid
    gpus.gpus[0].set(state="lost")
    gpus.driver.write()
    await_reason(gpus, Reason.LOST)
    gpus.gpus[0].drop("state")
    gpus.driver.write()
    gpus.until(lambda batch: not batch.faults)
    gpus.clock.leap(nvml.HEAL_S[0] + 1)
    gpus.until(lambda batch: not batch.faults)
    assert gpus.source.worker.pid == pid


def test_a_worker_that_no_signal_ends_is_kept_for_the_gpus_that_answer(
    gpus: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = gpus.source.worker.pid
    gpus.gpus[0].set(state="lost")
    gpus.driver.write()
    await_reason(gpus, Reason.LOST)
    gpus.clock.leap(nvml.HEAL_S[0] + 1)
    monkeypatch.setattr(nvml, "in_kernel", lambda _: True)
    assert gpus.source.read().readings
    assert gpus.source.worker.pid == pid
    monkeypatch.setattr(nvml, "in_kernel", lambda _: False)
    assert gpus.source.read().readings
    assert gpus.source.worker.pid != pid


def test_a_thread_that_waits_in_the_kernel_is_told_from_one_that_sleeps(tmp_path: Path) -> None:
    source, program = tmp_path / "waits.c", tmp_path / "waits"
    source.write_text(WAITS_IN_KERNEL)
    subprocess.run([GCC or "", "-o", program, source], check=True)
    with subprocess.Popen([program], stdin=subprocess.PIPE) as waits:
        assert eventually(lambda: nvml.in_kernel(waits.pid), within_s=PATIENCE_S)
    pipe = subprocess.PIPE
    with subprocess.Popen(["cat"], stdin=pipe, stdout=pipe, bufsize=0) as sleeps:
        assert sleeps.stdin
        assert sleeps.stdout
        sleeps.stdin.write(b"loaded")  # until then it waits for the disk, in the kernel
        assert sleeps.stdout.read(6) == b"loaded"
        assert eventually(lambda: not nvml.in_kernel(sleeps.pid), within_s=PATIENCE_S)
    assert not nvml.in_kernel(sleeps.pid)
    assert not nvml.in_kernel(None)


GIB = 1 << 30
LARGE = Instance(1, "3g.40gb", 3, 60, 40 * GIB, "MIG-00000000-0000-4000-8000-000000000001")
SMALL = Instance(7, "1g.10gb", 1, 16, 10 * GIB, "MIG-00000000-0000-4000-8000-000000000007")


def share(gpus: Rig, watts: int) -> None:
    """Divide the first GPU; both instances have work."""
    gpus.driver.carve(0, LARGE, SMALL)
    gpus.gpus[0].set(load=watts * 1000).process(100, GIB, "gi=1", "ci=0")
    gpus.gpus[0].process(101, GIB, "gi=7", "ci=0")
    gpus.driver.write()
    for _ in range(3):
        gpus.pass_time(1)
        gpus.book(gpus.until(lambda batch: not batch.faults))


def booked(gpus: Rig) -> tuple[dict[str, float], float]:
    """Joules of the parts of the first GPU, and those of the GPU."""
    told = gpus.series(PART_ENERGY).items()
    whole = gpus.series(COMPONENT_ENERGY)["gpu", gpus.uuid(0), "nvml", "measured"]
    return {labels[2]: joules for labels, joules in told if labels[1] == gpus.uuid(0)}, whole


def test_a_new_worker_divides_on_where_the_old_one_ended(older: Rig) -> None:
    share(older, 350)
    before, whole_before = booked(older)
    older.gpus[1].set(state="lost")
    older.ran(1)
    older.clock.leap(nvml.HEAL_S[0] + 1)
    older.ran(4)
    after, whole = booked(older)
    spent = {part: joules - before[part] for part, joules in after.items()}
    assert whole - whole_before == pytest.approx(5 * 350)
    assert spent[f"mig:3g.40gb:{LARGE.uuid}"] == pytest.approx(5 * 350 * 3 / 7)
    assert spent[f"mig:1g.10gb:{SMALL.uuid}"] == pytest.approx(5 * 350 / 7)
    assert sum(spent.values()) == pytest.approx(5 * 350)
    assert not older.series(METER_EVENTS)


def test_parts_of_a_gpu_that_falls_off_the_bus_and_returns_make_no_event(older: Rig) -> None:
    share(older, 350)
    before, _ = booked(older)
    older.gpus[0].set(state="lost")
    older.ran(1)
    older.gpus[0].drop("state")
    older.driver.write()
    older.pass_time(1)
    older.book(older.until(lambda batch: not batch.faults))
    older.ran(4)
    after, _ = booked(older)
    assert sum(after.values()) - sum(before.values()) == pytest.approx(4 * 350)
    assert not older.series(METER_EVENTS)


def test_an_instance_that_is_made_again_goes_on_without_an_event(older: Rig) -> None:
    share(older, 350)
    before, _ = booked(older)
    older.driver.carve(0, SMALL)
    older.ran(2)
    older.driver.carve(0, LARGE, SMALL)
    older.ran(3)
    after, _ = booked(older)
    name = f"mig:3g.40gb:{LARGE.uuid}"
    assert before[name] + 2 * 350 * 3 / 7 <= after[name] <= before[name] + 3 * 350 * 3 / 7 + 1e-6
    assert not older.series(METER_EVENTS)


def test_joules_of_too_long_ago_are_not_divided_by_what_is_done_now(older: Rig) -> None:
    share(older, 350)
    before, _ = booked(older)
    divided = older.source._units[0].divided
    assert divided is not None
    older.source._units[0].divided = divided._replace(at_ns=divided.at_ns - 16 * 10**9)
    older.source.close()
    older.ran(4)
    after, _ = booked(older)
    assert sum(after.values()) - sum(before.values()) == pytest.approx(3 * 350)
