"""Asks the real helm: lint, render, package, the notes a person reads after an installation."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from stack.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CHART: Final = ROOT / "helm" / "joulefloor"
RELEASE: Final = "watts"
LONGEST_S: Final = 600.0
NAMESPACE: Final = "energy"
Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Helm:
    """helm of one major; nothing of the caller's clusters or settings reaches it."""

    program: Path
    home: Path

    def ask(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever comes of it."""
        own = {
            "HELM_CACHE_HOME": str(self.home / "cache"),
            "HELM_CONFIG_HOME": str(self.home / "config"),
            "HELM_DATA_HOME": str(self.home / "data"),
            "KUBECONFIG": str(self.home / "no-cluster"),
        }
        return subprocess.run(
            [str(self.program), *map(str, arguments)],
            capture_output=True,
            check=False,
            env=os.environ | own,
            text=True,
            timeout=LONGEST_S,
        )

    def done(self, *arguments: object) -> str:
        """Run a command that must succeed and return what it prints."""
        answer = self.ask(*arguments)
        assert answer.returncode == 0, answer.stderr or answer.stdout
        return answer.stdout

    def render(
        self, chart: Path, values: Mapping[str, Any] | None = None, *more: object
    ) -> list[Manifest]:
        """Render a chart as an installation would, hooks included."""
        text = self.done(
            "template", RELEASE, chart, "--namespace", NAMESPACE, *self._with(values), *more
        )
        return [found for found in yaml.safe_load_all(text) if found]

    def refusal(self, chart: Path, values: Mapping[str, Any]) -> str:
        """Render with values that must be refused and return what helm says."""
        answer = self.ask("template", RELEASE, chart, *self._with(values))
        assert answer.returncode != 0, "these values should have been refused"
        return answer.stderr

    def notes(self, chart: Path, values: Mapping[str, Any] | None = None) -> str:
        """What a person reads after the installation; helm 3 does not tell without a cluster."""
        text = self.done(
            *("install", RELEASE, chart, "--namespace", NAMESPACE, "--dry-run=client"),
            *self._with(values),
        )
        return text.partition("NOTES:\n")[2]

    def _with(self, values: Mapping[str, Any] | None) -> Sequence[object]:
        if not values:
            return ()
        file = self.home / f"values-{abs(hash(repr(values)))}.yaml"
        file.write_text(yaml.safe_dump(dict(values)), encoding="utf-8")
        return ("--values", file)


def only(manifests: Sequence[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The one object of a kind (and name)."""
    found = [
        one for one in manifests if one["kind"] == kind and name in {None, one["metadata"]["name"]}
    ]
    assert len(found) == 1, f"{len(found)} objects of kind {kind} {name or ''}"
    return found[0]


def pod_of(manifest: Manifest) -> Manifest:
    """The spec of the pods that a DaemonSet or Deployment makes."""
    spec: Manifest = manifest["spec"]["template"]["spec"]
    return spec


def container_of(manifest: Manifest) -> Manifest:
    """The daemon's container of a DaemonSet or Deployment."""
    containers: list[Manifest] = pod_of(manifest)["containers"]
    return containers[0]
