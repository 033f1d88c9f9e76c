"""A kind cluster with the chart in it: how it is made, disturbed and taken away."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from stack.programs import ROOT
from tests.e2e.checks import NAMESPACE
from tests.e2e.kubectl import KubectlCluster, run

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


def missing() -> str:
    """What the checks need and this machine lacks, in words; empty if nothing."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} on the PATH"
    done = subprocess.run(["docker", "info"], capture_output=True, check=False)
    return "a running Docker daemon that you may talk to" if done.returncode else ""


class Kind(KubectlCluster):
    """The cluster; it is there between entry and exit."""

    def __init__(self, *, keep: bool = False) -> None:
        """Nothing is made yet; `keep` leaves it there in the end."""
        self._folder = Path(tempfile.mkdtemp(prefix="joulefloor-e2e-"))
        super().__init__((f"--kubeconfig={self._kubeconfig}",), OURS, IMAGE, keep=keep)

    def take_away(self) -> None:
        """The cluster, and how to reach it."""
        try:
            run("kind", "delete", "cluster", "--name", CLUSTER)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def target(self) -> str:
        """The only daemon."""
        return f"daemonset/{RELEASE}"

    def restart_kubelet(self) -> None:
        """As on a machine: the unit is restarted, and the node is ready again."""
        run("docker", "exec", NODE, "systemctl", "restart", "kubelet")
        self.kubectl("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=120s")

    def make(self) -> None:
        """Build the image, make the cluster, install the chart, start the two pods."""
        config = self._kubeconfig
        run("docker", "build", "--tag", IMAGE, str(ROOT))
        run("kind", "create", "cluster", "--name", CLUSTER, f"--kubeconfig={config}", "--wait=180s")
        run("kind", "load", "docker-image", IMAGE, "--name", CLUSTER)
        run(
            *("helm", "upgrade", "--install", RELEASE, str(CHART), f"--kubeconfig={config}"),
            *(f"--namespace={OURS}", "--create-namespace", f"--values={VALUES}"),
            *("--wait", "--timeout=180s"),
        )
        self.kubectl("apply", "-f", str(PODS))
        self.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod", "--all")

    @property
    def _kubeconfig(self) -> Path:
        return self._folder / "kubeconfig"
