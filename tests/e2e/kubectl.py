"""What kubectl does for the checks on any cluster: pods come and go, a port leads to the daemon."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Final, Self

from stack.processes import LOOPBACK
from stack.query import eventually
from tests.e2e.checks import NAMESPACE, Cluster, Sample
from tests.e2e.readers import from_exposition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

FORWARDING: Final = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")
LONGEST_S: Final = 900.0
REACHED_S: Final = 120.0
CONFINED: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What the strictest level of Pod Security Admission asks of a container."""


class CommandError(Exception):
    """A program that failed; the text has its command line and what it said last."""


class KubectlCluster(Cluster):
    """A cluster that kubectl talks to; how it is made and left is up to others."""

    def __init__(
        self, options: Sequence[str], namespace: str, image: str, *, keep: bool = False
    ) -> None:
        """Options for kubectl, the namespace of the daemon, the image of the pods.

        `keep` leaves there in the end what was made.
        """
        self.options = tuple(options)
        self._keep = keep
        self.namespace = namespace
        self.image = image
        self._forward: subprocess.Popen[str] | None = None
        self._url = ""

    def __enter__(self) -> Self:
        """Make it ready to be asked, or leave nothing behind."""
        try:
            self.make()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take everything away again."""
        self.stop_forwarding()
        if not self._keep:
            with contextlib.suppress(CommandError):
                self.take_away()

    def make(self) -> None:
        """Start the two pods, and what they need."""
        raise NotImplementedError

    def take_away(self) -> None:
        """What was made, however far that went."""
        raise NotImplementedError

    def target(self) -> str:
        """What kubectl forwards a port to, as it is called there."""
        raise NotImplementedError

    def port(self) -> int:
        """The daemon's port."""
        return 13806

    def read(self, *names: str) -> Sequence[Sample]:
        """Scrape the daemon; the way to it is made anew where it broke."""
        if self._forward is None or self._forward.poll() is not None:
            self._url = self._reach()
        return from_exposition(self._url, names)

    def start(self, pod: str) -> None:
        """Start a pod that sleeps."""
        self.apply(self.placed(sleeper(pod, self.image)))

    def delete(self, pod: str) -> None:
        """Delete a pod at once."""
        self.kubectl("-n", NAMESPACE, "delete", "pod", pod, "--grace-period=1", "--wait=false")

    def placed(self, pod: dict[str, object]) -> dict[str, object]:
        """The pod as this cluster wants it."""
        return pod

    def apply(self, *manifests: object) -> None:
        """Make these objects."""
        listed = {"apiVersion": "v1", "kind": "List", "items": manifests}
        self.kubectl("apply", "-f", "-", given=json.dumps(listed))

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl to its end and return what it printed.

        Raises:
            CommandError: it failed.
        """
        return run("kubectl", *self.options, *arguments, given=given)

    def stop_forwarding(self) -> None:
        """Let go of the port."""
        if self._forward is not None:
            self._forward.terminate()
            self._forward.wait()
            if self._forward.stdout is not None:
                self._forward.stdout.close()
            self._forward = None

    def _reach(self) -> str:
        """A way to the daemon; while its kubelet restarts there is none for some seconds."""
        said: list[str] = []

        def reached() -> str:
            try:
                return self._forward_port()
            except CommandError as error:
                said.append(str(error))
                return ""

        if url := eventually(reached, within_s=REACHED_S):
            return url
        raise CommandError(said[-1])

    def _forward_port(self) -> str:
        """Let kubectl carry a free port of this machine to the daemon's; return the address."""
        self.stop_forwarding()
        command = ["kubectl", *self.options, "-n", self.namespace, "port-forward"]
        self._forward = subprocess.Popen(
            [*command, self.target(), f":{self.port()}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = ""
        for line in self._forward.stdout or ():
            said += line
            if found := FORWARDING.search(line):
                return f"http://{LOOPBACK}:{found[1]}"
        raise CommandError(f"{' '.join(command)} ended: {said.strip()}")


def sleeper(name: str, image: str) -> dict[str, object]:
    """A pod that does nothing, from an image that is on the node already."""
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["python", "-c", "import signal; signal.pause()"],
        "securityContext": CONFINED,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    }


def run(*command: str, given: str | None = None) -> str:
    """Run a program to its end and return what it printed, telling a person what is going on.

    Raises:
        CommandError: it failed.
    """
    sys.stdout.write(f"$ {' '.join(command)}\n")
    sys.stdout.flush()
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, input=given, text=True, timeout=LONGEST_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{command[0]} did not end well: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise CommandError(f"{' '.join(command)} ended with {done.returncode}: {said}")
    return done.stdout
