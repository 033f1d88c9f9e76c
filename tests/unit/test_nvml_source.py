"""What the source of NVIDIA GPUs makes of a driver that goes away and of GPUs that do not return.

The source, its worker process and NVIDIA's binding are the real ones; only the driver is scripted.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from joulefloor.errors import Reason, SourceError
from joulefloor.sources import nvml
from stack.query import eventually
from tests.nvml.build import compiler
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
        assert eventually(lambda: nvml.in_kernel(waits.pid), within_s=5)
    pipe = subprocess.PIPE
    with subprocess.Popen(["cat"], stdin=pipe, stdout=pipe, bufsize=0) as sleeps:
        assert sleeps.stdin
        assert sleeps.stdout
        sleeps.stdin.write(b"loaded")  # until then it waits for the disk, in the kernel
        assert sleeps.stdout.read(6) == b"loaded"
        assert eventually(lambda: not nvml.in_kernel(sleeps.pid), within_s=5)
    assert not nvml.in_kernel(sleeps.pid)
    assert not nvml.in_kernel(None)
