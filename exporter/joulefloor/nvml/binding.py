"""NVIDIA's binding, checked, with its return codes as reasons. Nothing else imports pynvml."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, NamedTuple

from joulefloor.errors import Reason, SourceError

if TYPE_CHECKING:
    from types import ModuleType

OLDEST = "nvmlDeviceGetFieldValues", "NVML_FI_DEV_POWER_INSTANT", "nvmlGpmMetricsGet"
"""Names that every binding we can work with has."""

UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 1, 2, 3, 4, 6
DRIVER_NOT_LOADED, TIMEOUT, LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND = 9, 10, 12, 13
GPU_IS_LOST, RESET_REQUIRED, OPERATING_SYSTEM, LIB_RM_VERSION_MISMATCH = 15, 16, 17, 18
IN_USE, MEMORY, NO_DATA = 19, 20, 21
ARGUMENT_VERSION_MISMATCH, DEPRECATED, NOT_READY, GPU_NOT_FOUND = 25, 26, 27, 28

MISSING = frozenset({NOT_SUPPORTED, FUNCTION_NOT_FOUND, ARGUMENT_VERSION_MISMATCH, DEPRECATED})
"""The device or the driver does not give this; asked again from time to time."""
GONE = frozenset({GPU_IS_LOST, RESET_REQUIRED, GPU_NOT_FOUND})
"""This GPU is no longer there; others are."""
DRIVER_CHANGED = frozenset({UNINITIALIZED, DRIVER_NOT_LOADED, LIB_RM_VERSION_MISMATCH})
"""Only a new process, with a newly loaded library, can go on."""
REASONS = {
    NO_PERMISSION: Reason.DENIED,
    TIMEOUT: Reason.LATE,
    NOT_READY: Reason.LATE,
    NO_DATA: Reason.LATE,
    **dict.fromkeys(MISSING, Reason.UNSUPPORTED),
}


class Refusal(Exception):  # noqa: N818  # an answer of the driver, not a failure of ours
    """The driver answered a call with a code other than success, or with an impossible value."""

    def __init__(self, call: str, code: int, text: str) -> None:
        """`code` is NVML's; 0 for a value that cannot be."""
        super().__init__(f"{call}: {text}")
        self.code = code
        self.detail = f"{call}: {text}" if call else text

    @property
    def reason(self) -> Reason:
        """The reason this code stands for; unlisted ones mean that it stopped answering."""
        return REASONS.get(self.code, Reason.LOST if self.code else Reason.GARBLED)


class FieldValue(NamedTuple):
    """One answer of nvmlDeviceGetFieldValues: its return code and, if 0, its value."""

    code: int
    value: float


class Binding:
    """The loaded binding; `calling` holds, by thread, the call it made last (or is in)."""

    def __init__(self, module: ModuleType) -> None:
        """`module` is pynvml, already checked."""
        self._module = module
        self.calling: dict[int, str] = {}
        self._names = {
            code: name.removeprefix("NVML_ERROR_").lower().replace("_", " ")
            for name, code in vars(module).items()
            if name.startswith("NVML_ERROR_") and isinstance(code, int)
        }

    def call(self, name: str, *arguments: object) -> object:
        """What the function of that name returns.

        Raises:
            Refusal: the driver said no, or has no such function.
        """
        function = getattr(self._module, name, None)
        if function is None:
            raise Refusal(name, FUNCTION_NOT_FOUND, "the installed nvidia-ml-py is too old for it")
        self.calling[get_ident()] = name
        try:
            return function(*arguments)
        except self._module.NVMLError as error:
            raise self.refusal(name, error.value) from None
        except UnicodeDecodeError:
            raise Refusal(name, 0, "the driver answered with bytes that are no text") from None

    def refusal(self, name: str, code: int) -> Refusal:
        """The Refusal of a code, in words."""
        return Refusal(name, code, f"{self._names.get(code, 'unknown code')} ({code})")

    def text(self, name: str, *arguments: object) -> str:
        """A string answer; printable, at most 128 characters."""
        answer = self.call(name, *arguments)
        text = answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)
        return "".join(c if c.isprintable() else "?" for c in text)[:128]

    def number(self, name: str, *arguments: object) -> float:
        """A number that the driver vouches for.

        Raises:
            Refusal: also for the sentinel that says that there is none.
        """
        answer = self.call(name, *arguments)
        if not isinstance(answer, (int, float)) or answer in _NO_NUMBER:
            raise Refusal(name, NO_DATA, f"no value available ({answer!r})")
        return answer

    def pair(self, name: str, *arguments: object) -> tuple[int, int]:
        """Two numbers."""
        answer = self.call(name, *arguments)
        if not isinstance(answer, (list, tuple)) or len(answer) != 2:  # noqa: PLR2004  # two
            raise Refusal(name, 0, f"not two numbers: {answer!r}")
        return int(answer[0]), int(answer[1])

    def fields(self, device: object, wanted: list[tuple[int, int]]) -> list[FieldValue]:
        """Values of (field id, scope) pairs, each with its own return code.

        Raises:
            Refusal: the call as a whole failed.
        """
        answers = self.call("nvmlDeviceGetFieldValues", device, wanted)
        return [_field_value(answer) for answer in answers]  # type: ignore[attr-defined]

    def struct(self, name: str) -> type[object] | None:
        """A structure of the binding, None if this version does not have it."""
        found = getattr(self._module, name, None)
        return found if isinstance(found, type) else None

    def constant(self, name: str, otherwise: int) -> int:
        """A constant by name, or its documented number when this binding is older."""
        return int(getattr(self._module, name, otherwise))


_NO_NUMBER = frozenset({0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF})
"""NVML_VALUE_NOT_AVAILABLE, -1, as calls that return no sign pass it; of others -1 is a number."""
_NO_FIELD = _NO_NUMBER | {-1}
"""The same in a field, whose type is the driver's choice."""
_UNIONS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Members of nvmlValue_t in the order of nvmlValueType_t."""


def _field_value(answer: object) -> FieldValue:
    code = int(answer.nvmlReturn)  # type: ignore[attr-defined]
    kind = int(answer.valueType)  # type: ignore[attr-defined]
    if code:
        # A driver that has never heard of a field calls its number an invalid argument.
        return FieldValue(NOT_SUPPORTED if code == INVALID_ARGUMENT else code, 0.0)
    if not 0 <= kind < len(_UNIONS):
        return FieldValue(NO_DATA, 0.0)
    value = getattr(answer.value, _UNIONS[kind])  # type: ignore[attr-defined]
    if value in _NO_FIELD or value != value:  # noqa: PLR0124  # not a number
        return FieldValue(NO_DATA, 0.0)
    return FieldValue(0, value)


def load() -> Binding:
    """NVIDIA's binding, if it is what answers to the name.

    Raises:
        SourceError: it is not installed, or an old package of the same name hides it.
    """
    try:
        import pynvml  # noqa: PLC0415  # absence is an answer
    except ImportError as error:
        raise SourceError(Reason.ABSENT, f"pip install nvidia-ml-py: {error}") from None
    missing = [name for name in OLDEST if not hasattr(pynvml, name)]
    file = getattr(pynvml, "__file__", None) or "?"
    is_package = hasattr(pynvml, "__path__")
    if missing and is_package:
        raise SourceError(
            Reason.UNSUPPORTED,
            f"{file}: an old package `pynvml` hides NVIDIA's nvidia-ml-py (it has no "
            f"{missing[0]}); mend with: pip uninstall pynvml; pip install -U nvidia-ml-py",
        )
    if missing:
        raise SourceError(
            Reason.UNSUPPORTED,
            f"{file}: nvidia-ml-py {_version()} is too old (it has no {missing[0]}); "
            "mend with: pip install -U nvidia-ml-py",
        )
    return Binding(pynvml)


def _version() -> str:
    from importlib import metadata  # noqa: PLC0415  # 6 MiB, only for this message

    try:
        return metadata.version("nvidia-ml-py")
    except metadata.PackageNotFoundError:
        return "of unknown version"
