"""Units of every quantity joulefloor handles, and the only place where one is converted.

Sources convert at the edge: whatever a kernel file or a vendor call speaks, a Reading holds base
units. The constants are exact; no rounding and no `abs()` happens here or anywhere after.
"""

from __future__ import annotations

from typing import NewType

Joules = NewType("Joules", float)
Watts = NewType("Watts", float)
Seconds = NewType("Seconds", float)
Celsius = NewType("Celsius", float)
Kelvin = NewType("Kelvin", float)
Hertz = NewType("Hertz", float)
Nanoseconds = NewType("Nanoseconds", int)

NANOSECONDS_PER_SECOND = 1_000_000_000
ZERO_CELSIUS_IN_KELVIN = 273.15


def joules_from_microjoules(microjoules: int) -> Joules:
    """RAPL and hwmon counters count microjoules."""
    return Joules(microjoules / 1e6)


def joules_from_millijoules(millijoules: int) -> Joules:
    """NVML energy counters count millijoules."""
    return Joules(millijoules / 1e3)


def watts_from_microwatts(microwatts: int) -> Watts:
    """Hwmon and powercap limits speak microwatts."""
    return Watts(microwatts / 1e6)


def watts_from_milliwatts(milliwatts: int) -> Watts:
    """NVML power speaks milliwatts."""
    return Watts(milliwatts / 1e3)


def celsius_from_millidegrees(millidegrees: int) -> Celsius:
    """Hwmon and thermal zones speak thousandths of a degree Celsius."""
    return Celsius(millidegrees / 1e3)


def hertz_from_kilohertz(kilohertz: int) -> Hertz:
    """Cpufreq speaks kilohertz."""
    return Hertz(kilohertz * 1e3)


def bytes_from_kibibytes(kibibytes: int) -> int:
    """/proc/meminfo says kB and means KiB."""
    return kibibytes * 1024


def bytes_from_sectors(sectors: int) -> int:
    """Block device statistics count sectors of 512 bytes, whatever the device's own size is."""
    return sectors * 512


def seconds_from_nanoseconds(nanoseconds: int) -> Seconds:
    """Clocks count nanoseconds."""
    return Seconds(nanoseconds / NANOSECONDS_PER_SECOND)


def seconds_from_microseconds(microseconds: int) -> Seconds:
    """Control groups of version 2 count microseconds."""
    return Seconds(microseconds / 1e6)


def nanoseconds_from_seconds(seconds: float) -> Nanoseconds:
    """Periods and deadlines are configured in seconds."""
    return Nanoseconds(round(seconds * NANOSECONDS_PER_SECOND))


def seconds_from_milliseconds(milliseconds: int) -> Seconds:
    """CPU throttle times are milliseconds."""
    return Seconds(milliseconds / 1e3)


def kelvin_from_celsius(celsius: float) -> Kelvin:
    """Thermodynamics needs kelvin; raises ValueError below absolute zero."""
    kelvin = celsius + ZERO_CELSIUS_IN_KELVIN
    if kelvin < 0:
        raise ValueError(f"{celsius} degrees Celsius is below absolute zero")
    return Kelvin(kelvin)
