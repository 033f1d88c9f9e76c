"""A cluster that has joulefloor already: the two pods come to one of its nodes, and go again."""

from __future__ import annotations

import json
from typing import Any, Final

import yaml

from tests.e2e.checks import NAMESPACE
from tests.e2e.kind import PODS
from tests.e2e.kubectl import CommandError, KubectlCluster, run

TOOLS: Final = ("kubectl",)
CONTAINER: Final = "joulefloor"


class Installed(KubectlCluster):
    """The cluster of kubectl's current context; the pods are there between entry and exit."""

    def __init__(
        self, daemonset: str, *, node: str = "", restart: str = "", keep: bool = False
    ) -> None:
        """`daemonset`: namespace/name; `node`: where to look, if there are several.

        `restart`: a command for the shell that restarts the kubelet of the node.
        """
        namespace, _, name = daemonset.rpartition("/")
        super().__init__((), namespace or "default", "", keep=keep)
        self.node = node
        self._name = name
        self._restart = restart
        self._made = False
        self._selector = ""
        self._port = 0

    def make(self) -> None:
        """Look the daemon up, and start the two pods on its node, from its image."""
        self._look()
        self._made = True
        namespace, *pods = yaml.safe_load_all(PODS.read_text(encoding="utf-8"))
        self.apply(namespace, *map(self._from_image, pods))
        self.kubectl(
            *("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod", "--all"), "--timeout=120s"
        )

    def take_away(self) -> None:
        """The pods and their namespace; the daemon stays."""
        if self._made:
            self.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")

    def target(self) -> str:
        """The daemon of the node now; it may have been replaced."""
        daemons = self._daemons()
        if self.node not in daemons:
            raise CommandError(f"{self.namespace}/{self._name} is not ready on {self.node}")
        return f"pod/{daemons[self.node]}"

    def port(self) -> int:
        """What the chart was told."""
        return self._port

    def restart_kubelet(self) -> None:
        """As the caller says, then the node is ready."""
        run("sh", "-c", self._restart)
        self.kubectl("wait", "--for=condition=Ready", f"node/{self.node}", "--timeout=120s")

    def placed(self, pod: dict[str, Any]) -> dict[str, Any]:
        """On the node, whatever taints it has."""
        pod["spec"]["nodeName"] = self.node
        return pod

    def _from_image(self, pod: dict[str, Any]) -> dict[str, Any]:
        for container in pod["spec"]["containers"]:
            container["image"] = self.image
        return self.placed(pod)

    def _look(self) -> None:
        found = self._get("daemonset", self._name)
        labels = found["spec"]["selector"]["matchLabels"]
        self._selector = ",".join(f"{key}={value}" for key, value in labels.items())
        (daemon,) = (
            container
            for container in found["spec"]["template"]["spec"]["containers"]
            if container["name"] == CONTAINER
        )
        self.image = daemon["image"]
        self._port = next(
            port["containerPort"] for port in daemon["ports"] if port["name"] == "metrics"
        )
        nodes = sorted(self._daemons())
        if not self.node and len(nodes) == 1:
            (self.node,) = nodes
        if self.node not in nodes:
            raise CommandError(
                f"{self.namespace}/{self._name} is ready on {', '.join(nodes) or 'no node'}: "
                "say --node with one of them"
            )

    def _daemons(self) -> dict[str, str]:
        """Node to the name of its daemon that is ready."""
        return {
            pod["spec"]["nodeName"]: pod["metadata"]["name"]
            for pod in self._get("pods", "--selector", self._selector)["items"]
            if any(
                (told["type"], told["status"]) == ("Ready", "True")
                for told in pod["status"].get("conditions", ())
            )
        }

    def _get(self, *what: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.kubectl("-n", self.namespace, "get", *what, "--output=json")
        )
        return found
