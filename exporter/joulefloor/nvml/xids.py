"""XIDs: the error numbers the driver reports as events, counted per GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joulefloor import catalogue
from joulefloor.nvml.binding import DRIVER_CHANGED, GONE, TIMEOUT, Refusal
from joulefloor.nvml.table import level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from joulefloor.nvml.binding import Binding
    from joulefloor.nvml.taken import Capabilities, Taken

XID_EVENT = 8
MOST_EVENTS = 16
"""Events taken per round; more wait for the next."""


class Xids:
    """An event set of one GPU, looked into once per round without waiting."""

    def __init__(self, binding: Binding, device: object, uuid: str) -> None:
        """Events are registered for at the first read; earlier ones are not told."""
        self._binding = binding
        self._device = device
        self._uuid = uuid
        self._total = level(catalogue.DEVICE_ERRORS, uuid, "xid")
        self._counts: dict[int, int] = {}
        self._events: object | None = None

    def read(self, taken: Taken, able: Capabilities) -> None:
        """Add the count of all XIDs since the process started, and of each that occurred."""
        if not able.read("xid", (self._total,), self._poll, taken):
            return
        for code, count in self._counts.items():
            row = level(catalogue.DEVICE_ERRORS, self._uuid, f"xid_{code}")
            taken.values[row] = float(count)

    def close(self) -> None:
        """Free the event set, if the driver still answers."""
        events, self._events = self._events, None
        if events is not None:
            try:
                self._binding.call("nvmlEventSetFree", events)
            except Refusal:
                return

    def _poll(self) -> Sequence[float]:
        if self._events is None:
            self._events = self._register()
        for _ in range(MOST_EVENTS):
            try:
                event = self._binding.call("nvmlEventSetWait_v2", self._events, 0)
            except Refusal as refusal:
                if refusal.code == TIMEOUT:
                    break
                if refusal.code not in GONE | DRIVER_CHANGED:
                    self._events = None
                raise
            if event.eventType == XID_EVENT:  # type: ignore[attr-defined]
                code = int(event.eventData)  # type: ignore[attr-defined]
                self._counts[code] = self._counts.get(code, 0) + 1
        return (float(sum(self._counts.values())),)

    def _register(self) -> object:
        """A new event set, freed again when the device has no such events."""
        events = self._binding.call("nvmlEventSetCreate")
        try:
            self._binding.call("nvmlDeviceRegisterEvents", self._device, XID_EVENT, events)
        except Refusal:
            self._binding.call("nvmlEventSetFree", events)
            raise
        return events
