"""The library's structures are the binding's, and the binding finds every function it may call."""

from __future__ import annotations

import ctypes
import inspect
import re
from pathlib import Path

import pynvml
import pytest

from tests.nvml.build import compiler, library

pytestmark = pytest.mark.skipif(compiler() is None, reason="gcc is not installed")

ANSWERED = (
    "nvmlInitWithFlags",
    "nvmlShutdown",
    "nvmlErrorString",
    "nvmlSystemGetDriverVersion",
    "nvmlSystemGetNVMLVersion",
    "nvmlSystemGetCudaDriverVersion",
    "nvmlSystemGetCudaDriverVersion_v2",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetHandleByPciBusId_v2",
    "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetAttributes_v2",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlEventSetWait_v2",
    "nvmlComputeInstanceGetInfo_v2",
)
"""Symbols that the binding calls by another name than its own, and those of every program."""
ASKED = re.compile(r"\bnvml(?:Device|System|Gpm|Event|GpuInstance|ComputeInstance)[A-Z]\w+")
DAEMON = Path(__file__).parents[2] / "exporter" / "joulefloor"
VERSIONED = {
    "MEMORY_V2": (pynvml.c_nvmlMemory_v2_t, pynvml.nvmlMemory_v2),
    "TEMPERATURE_V1": (pynvml.c_nvmlTemperature_v1_t, pynvml.nvmlTemperature_v1),
    "MARGIN_V1": (pynvml.c_nvmlMarginTemperature_v1_t, pynvml.nvmlMarginTemperature_v1),
    "FAN_V1": (pynvml.c_nvmlFanSpeedInfo_t, pynvml.nvmlFanSpeedInfo_v1),
    "PROFILE_V2": (
        pynvml.c_nvmlGpuInstanceProfileInfo_v2_t,
        pynvml.nvmlGpuInstanceProfileInfo_v2,
    ),
    "PLATFORM_V2": (pynvml.c_nvmlPlatformInfo_v2_t, pynvml.nvmlPlatformInfo_v2),
}


def _layout() -> list[tuple[str, str, int, int]]:
    loaded = ctypes.CDLL(str(library()))
    rows: list[tuple[str, str, int, int]] = []
    line = ctypes.create_string_buffer(200)
    while loaded.fakeLayout(len(rows), line, len(line)):
        type_name, member, size, offset = line.value.decode().split()
        rows.append((type_name, member, int(size), int(offset)))
    return rows


def test_every_structure_has_the_size_and_the_members_places_of_the_binding() -> None:
    rows = _layout()
    assert len({row[0] for row in rows}) >= 25
    for type_name, member, size, offset in rows:
        theirs = getattr(pynvml, type_name)
        if member == "-":
            assert ctypes.sizeof(theirs) == size, type_name
        else:
            place = getattr(theirs, member)
            assert (place.size, place.offset) == (size, offset), f"{type_name}.{member}"


def test_versions_carry_the_size_of_their_structure() -> None:
    for name, (structure, version) in VERSIONED.items():
        assert version & 0xFFFFFF == ctypes.sizeof(structure), name


def _symbols_of(function: str) -> set[str]:
    """The C symbols that a function of the binding looks up."""
    found = getattr(pynvml, function)
    looked_up = set(re.findall(r'FunctionPointer\("(\w+)"\)', inspect.getsource(found)))
    if looked_up:
        return looked_up
    # A wrapper around the version that the binding prefers.
    versioned = re.findall(rf"return ({function}_v\d)\(", inspect.getsource(found))
    return set().union(*(_symbols_of(name) for name in versioned))


def test_every_function_that_the_daemon_calls_is_there() -> None:
    sources = [*(DAEMON / "nvml").glob("*.py"), *(DAEMON / "sources").glob("nvml*.py")]
    called = {name for path in sources for name in ASKED.findall(path.read_text())}
    functions = {name for name in called if callable(getattr(pynvml, name, None))}
    loaded = ctypes.CDLL(str(library()))
    symbols = set().union(*(_symbols_of(name) for name in functions))
    assert len(functions) >= 20
    assert {symbol for symbol in symbols if not hasattr(loaded, symbol)} == set()


@pytest.mark.parametrize("symbol", ANSWERED)
def test_the_symbol_that_the_binding_calls_is_exported(symbol: str) -> None:
    assert hasattr(ctypes.CDLL(str(library())), symbol)


def test_nothing_else_than_the_drivers_functions_is_exported() -> None:
    loaded = ctypes.CDLL(str(library()))
    assert not hasattr(loaded, "call_begin")
    assert not hasattr(loaded, "scenario_parse")
