"""A kind cluster with the chart in it: how it is made, asked, disturbed and taken away."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from stack.processes import LOOPBACK
from stack.programs import ROOT
from tests.e2e.checks import NAMESPACE, Cluster, Sample
from tests.e2e.readers import from_exposition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

CLUSTER: Final = "joulefloor-e2e"
NODE: Final = f"{CLUSTER}-control-plane"
IMAGE: Final = "joulefloor:e2e"
RELEASE: Final = "joulefloor"
OURS: Final = "joulefloor"
"""The namespace of the daemon."""
CHART: Final = ROOT / "helm" / "joulefloor"
VALUES: Final = Path(__file__).with_name("values.yaml")
PODS: Final = Path(__file__).with_name("pods.yaml")
TOOLS: Final = ("kind", "docker", "kubectl", "helm")
FORWARDING: Final = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")
LONGEST_S: Final = 900.0


class CommandError(Exception):
    """A program that failed; the text has its command line and what it said last."""


def missing() -> str:
    """What the checks need and this machine lacks, in words; empty if nothing."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} on the PATH"
    done = subprocess.run(["docker", "info"], capture_output=True, check=False)
    return "a running Docker daemon that you may talk to" if done.returncode else ""


class Kind(Cluster):
    """The cluster; it is there between entry and exit."""

    def __init__(self, *, keep: bool = False) -> None:
        """Nothing is made yet; `keep` leaves it there in the end."""
        self._keep = keep
        self._folder = Path(tempfile.mkdtemp(prefix="joulefloor-e2e-"))
        self._forward: subprocess.Popen[str] | None = None
        self._url = ""

    def __enter__(self) -> Self:
        """Build the image, make the cluster, install the chart, start the two pods."""
        try:
            self._make()
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
        self._stop_forwarding()
        if not self._keep:
            with contextlib.suppress(CommandError):
                _run("kind", "delete", "cluster", "--name", CLUSTER)
            shutil.rmtree(self._folder, ignore_errors=True)

    def read(self, *names: str) -> Sequence[Sample]:
        """Scrape the daemon; the way to it is made anew where it broke."""
        if self._forward is None or self._forward.poll() is not None:
            self._url = self._forward_port()
        return from_exposition(self._url, names)

    def start(self, pod: str) -> None:
        """Start a pod that sleeps."""
        self._kubectl("apply", "-f", "-", given=json.dumps(sleeper(pod)))

    def delete(self, pod: str) -> None:
        """Delete a pod at once."""
        self._kubectl("-n", NAMESPACE, "delete", "pod", pod, "--grace-period=1", "--wait=false")

    def restart_kubelet(self) -> None:
        """As on a machine: the unit is restarted, and the node is ready again."""
        _run("docker", "exec", NODE, "systemctl", "restart", "kubelet")
        self._kubectl("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=120s")

    def _make(self) -> None:
        config = self._kubeconfig
        _run("docker", "build", "--tag", IMAGE, str(ROOT))
        _run(
            "kind", "create", "cluster", "--name", CLUSTER, f"--kubeconfig={config}", "--wait=180s"
        )
        _run("kind", "load", "docker-image", IMAGE, "--name", CLUSTER)
        _run(
            *("helm", "upgrade", "--install", RELEASE, str(CHART), f"--kubeconfig={config}"),
            *(f"--namespace={OURS}", "--create-namespace", f"--values={VALUES}"),
            *("--wait", "--timeout=180s"),
        )
        self._kubectl("apply", "-f", str(PODS))
        self._kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod", "--all")

    @property
    def _kubeconfig(self) -> Path:
        return self._folder / "kubeconfig"

    def _kubectl(self, *arguments: str, given: str | None = None) -> str:
        return _run("kubectl", f"--kubeconfig={self._kubeconfig}", *arguments, given=given)

    def _forward_port(self) -> str:
        """Let kubectl carry a free port of this machine to the daemon's; return the address."""
        self._stop_forwarding()
        command = ["kubectl", f"--kubeconfig={self._kubeconfig}", "-n", OURS, "port-forward"]
        self._forward = subprocess.Popen(
            [*command, f"daemonset/{RELEASE}", ":13806"],
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

    def _stop_forwarding(self) -> None:
        if self._forward is not None:
            self._forward.terminate()
            self._forward.wait()
            if self._forward.stdout is not None:
                self._forward.stdout.close()
            self._forward = None


def sleeper(name: str) -> dict[str, object]:
    """A pod that does nothing, from the image that is in the cluster already."""
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["python", "-c", "import signal; signal.pause()"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    }


def _run(*command: str, given: str | None = None) -> str:
    """Run a program to its end and return what it printed, telling a person what is going on."""
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
