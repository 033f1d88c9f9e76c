"""A program on the unmodified binding, one question a line: what tests of the kit talk to.

Started as `python -m tests.nvml.probe` with the fake driver's folder in LD_LIBRARY_PATH.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pynvml

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.nvml.scenario import FakeDriver

ENDED = "ended"
ROOT = Path(__file__).parents[2]


class Refused(Exception):  # noqa: N818  # an answer of the driver
    """What NVML said instead of a value."""

    def __init__(self, code: int, words: str) -> None:
        """Its return code and its words."""
        super().__init__(f"{code}: {words}")
        self.code = code


class Probe:
    """A running program that asks the driver; use as a context."""

    def __init__(self, driver: FakeDriver, *, start: bool = True) -> None:
        """`start` calls nvmlInit first."""
        self.driver = driver
        self._start = start

    def __enter__(self) -> Self:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nvml.probe"],
            cwd=ROOT,
            env=self.driver.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._start:
            self.ask("nvmlInit()")
        return self

    def __exit__(self, *_: object) -> None:
        """End it, whatever hangs in it."""
        self._process.kill()
        self._process.communicate()

    def ask(self, question: str) -> object:
        """The value of an expression over pynvml's names, as JSON carries it.

        Raises:
            Refused: NVML said no.
            EOFError: The program is gone.
        """
        return self._exchange({"ask": question})

    def device(self, question: str, gpu: int = 0) -> object:
        """The same with `h` the handle of a GPU, looked up once."""
        return self._exchange({"ask": question, "gpu": gpu})

    def begin(self, name: str, question: str, gpu: int = 0) -> None:
        """Ask in a thread of the program and do not wait."""
        self._exchange({"begin": name, "question": question, "gpu": gpu})

    def ended(self, name: str) -> object:
        """The answer of a thread, None while it hangs."""
        return self._exchange({ENDED: name})

    def _exchange(self, message: dict[str, object]) -> object:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise EOFError
        answer = json.loads(line)
        if "code" in answer:
            raise Refused(answer["code"], answer["words"])
        return answer["value"]


def _plain(value: object) -> object:
    """What JSON can carry: structures as dictionaries, handles as whether they are something."""
    if isinstance(value, (ctypes.Structure, ctypes.Union)):
        return {name: _plain(getattr(value, name)) for name, *_ in value._fields_}
    if isinstance(value, pynvml.nvmlFriendlyObject):
        return {name: _plain(entry) for name, entry in vars(value).items()}
    if isinstance(value, ctypes._Pointer):
        return bool(value)
    if isinstance(value, ctypes._SimpleCData):
        return value.value
    if isinstance(value, (list, tuple, ctypes.Array)):
        return [_plain(entry) for entry in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value


class _Answers:
    """The program's side: names that live from question to question, and its threads."""

    def __init__(self) -> None:
        self._names = dict(vars(pynvml))
        self._names.update(ctypes=ctypes, memory={}, gpm_between=_gpm_between)
        self._handles: dict[int, object] = {}
        self._threads: dict[str, list[object]] = {}

    def to(self, message: dict[str, object]) -> object:
        if ENDED in message:
            answer = self._threads[str(message[ENDED])]
            return answer[0] if answer else None
        gpu = message.get("gpu")
        handle = None if gpu is None else self._handle(int(str(gpu)))
        if "begin" in message:
            self._begin(str(message["begin"]), str(message["question"]), handle)
            return None
        return self._evaluate(str(message["ask"]), handle)

    def _handle(self, gpu: int) -> object:
        if gpu not in self._handles:
            self._handles[gpu] = pynvml.nvmlDeviceGetHandleByIndex(gpu)
        return self._handles[gpu]

    def _evaluate(self, question: str, handle: object) -> object:
        # The questions come from the tests of this folder only.
        return _plain(eval(question, {**self._names, "h": handle}))  # noqa: S307

    def _begin(self, name: str, question: str, handle: object) -> None:
        answer = self._threads[name] = []
        running = threading.Event()

        def work() -> None:
            running.set()
            answer.append(_answered(lambda: self._evaluate(question, handle)))

        threading.Thread(target=work, daemon=True).start()
        running.wait()


def _gpm_between(first: object, second: object, *metrics: int) -> list[tuple[int, float]]:
    """Return codes and values of metrics between two samples."""
    request = pynvml.c_nvmlGpmMetricsGet_t(
        version=pynvml.NVML_GPM_METRICS_GET_VERSION,
        numMetrics=len(metrics),
        sample1=first,
        sample2=second,
    )
    for place, metric in enumerate(metrics):
        request.metrics[place].metricId = metric
    pynvml.nvmlGpmMetricsGet(request)
    found = request.metrics[: len(metrics)]
    return [(int(metric.nvmlReturn), float(metric.value)) for metric in found]


def _answered(question: Callable[[], object]) -> dict[str, object]:
    try:
        return {"value": question()}
    except pynvml.NVMLError as error:
        return {"code": error.value, "words": str(error)}


def main() -> None:
    """Answer until the tests let go."""
    answers = _Answers()
    for line in sys.stdin:
        message = json.loads(line)
        answer = _answered(lambda message=message: answers.to(message))  # type: ignore[misc]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
