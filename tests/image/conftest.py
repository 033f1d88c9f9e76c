"""The image, built once for all tests, and daemons in containers.

IMAGE_ARCHITECTURE names another processor than this machine's: see tests/optional/README.md.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from stack.processes import LOOPBACK, free_port
from stack.programs import ROOT
from stack.query import answers, eventually, fetch
from tests.image import processors, standin
from tests.image.engine import Engine, EngineError, missing, running
from tests.image.processors import EmulationError, Processor
from tests.image.standin import StandInError
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IMAGE = "joulefloor:test"
# As strict as an orchestrator can be: what works here works anywhere.
STRICT = (
    "--network=host",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=64",
    "--memory=192m",
)


def absent(reason: str) -> NoReturn:
    """Skip, or fail where nothing may be missing."""
    if os.environ.get("JOULEFLOOR_REQUIRE_PEERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def processor() -> Processor:
    """What the image is built for."""
    try:
        return processors.wanted()
    except EmulationError as error:
        absent(str(error))


@pytest.fixture(scope="session")
def engine(processor: Processor) -> Iterator[Engine]:
    """A Docker Engine that holds only the base image."""
    if reason := missing():
        absent(reason)
    folder = Path(tempfile.mkdtemp(prefix="joulefloor-docker-"))
    try:
        with processors.played(processor), running(folder, processor.platform) as started:
            standin.bring(started, processor.architecture)
            yield started
    except (EmulationError, EngineError, StandInError) as error:
        absent(str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The image of this checkout."""
    engine.build(ROOT, IMAGE, "--build-arg=VERSION=7.8.9", "--build-arg=REVISION=abcdef")
    return IMAGE


@dataclass(frozen=True, slots=True)
class Container:
    """A daemon in a container on the host's loopback."""

    engine: Engine
    identity: str
    url: str

    def metrics(self) -> str:
        return fetch(f"{self.url}/metrics", timeout_s=PATIENCE_S).decode()

    def until(self, holds: Callable[[str], bool]) -> str:
        """Metrics as soon as something holds, else those of the last try."""

        def found() -> str:
            text = self.metrics()
            return text if holds(text) else ""

        return eventually(found, within_s=PATIENCE_S) or self.metrics()

    def stop(self) -> int:
        """Stop as an orchestrator does (SIGTERM); the exit code, 137 if it had to be killed."""
        self.engine.done("stop", f"--time={PATIENCE_S:.0f}", self.identity)
        return int(self.engine.inspect(self.identity)["State"]["ExitCode"])


@pytest.fixture
def start(engine: Engine, image: str) -> Iterator[Callable[..., Container]]:
    """Run the daemon with given options of docker and arguments; all are removed at the end."""
    made: list[str] = []

    def _start(*options: object, arguments: tuple[str, ...] = ()) -> Container:
        port = free_port()
        listen = f"--web.listen-address={LOOPBACK}:{port}"
        identity = engine.done("run", "--detach", *STRICT, *options, image, listen, *arguments)
        made.append(identity)
        container = Container(engine, identity, f"http://{LOOPBACK}:{port}")
        if not eventually(lambda: answers(f"{container.url}/readyz"), within_s=PATIENCE_S):
            pytest.fail(f"not ready:\n{engine.ask('logs', identity).stderr}")
        return container

    yield _start
    for identity in made:
        engine.ask("rm", "--force", identity)
