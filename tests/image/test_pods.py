"""The chart's pods, run: each rendered container with the rights its spec gives and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stack.query import eventually
from tests.chart.conftest import ready
from tests.chart.helm import CHART, Helm, Manifest, container_of, only, pod_of
from tests.image.conftest import IMAGE, STRICT
from tests.machine import Machine
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.image.conftest import Container
    from tests.image.engine import Engine

GROUP = 4242
NOBODY = 65534
RAPL = "sys/devices/virtual/powercap"


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The newer helm; that both make the same is tested with the chart."""
    return ready(4, tmp_path_factory)


@pytest.fixture
def node(tmp_path: Path) -> Machine:
    """A node with RAPL that only root may read, as the kernel makes it."""
    root = tmp_path / "node"
    root.mkdir()
    tmp_path.chmod(0o755)
    machine = Machine(root, host_file="intel-2s")
    for folder in ("var/lib/kubelet/pod-resources", "var/log/pods"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    counters = list((root / RAPL).rglob("energy_uj"))
    assert counters
    for path in counters:
        path.chmod(0o400)
    return machine


def options(pod: Manifest, container: Manifest, node: Machine, tmp_path: Path) -> list[str]:
    """What docker has to be told to give a container the rights that its spec gives."""
    context: dict[str, Any] = pod["securityContext"] | container["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert not context["allowPrivilegeEscalation"]
    told = [f"--user={context['runAsUser']}:{context['runAsGroup']}"]
    told += [f"--group-add={group}" for group in context.get("supplementalGroups", [])]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        source = tmp_path / mount["name"]
        if "hostPath" in volume:
            source = node.root / volume["hostPath"]["path"].lstrip("/")
        else:
            source.mkdir(exist_ok=True)
        mode = "ro" if mount.get("readOnly") else "rw"
        told.append(f"--volume={source}:{mount['mountPath']}:{mode}")
    return told


def arguments(container: Manifest) -> tuple[str, ...]:
    """The arguments of the spec, but for the address: here all share one network."""
    given: list[str] = container["args"]
    return tuple(one for one in given if not one.startswith("--web.listen-address"))


def rapl(text: str) -> list[str]:
    return [
        line
        for line in text.splitlines()
        if line.startswith("joulefloor_component_energy_joules_total") and 'source="rapl"' in line
    ]


def test_the_default_pod_measures_all_but_rapl_and_says_so(
    helm: Helm, node: Machine, start: Callable[..., Container], tmp_path: Path
) -> None:
    pod = pod_of(only(helm.render(CHART), "DaemonSet"))
    (container,) = pod["containers"]
    running = start(*options(pod, container, node, tmp_path), arguments=arguments(container))
    text = running.until(lambda text: 'reason="DENIED"' in text)
    assert 'joulefloor_source_faults{reason="DENIED",source="rapl"}' in text
    assert rapl(text) == []
    assert running.stop() == 0


def test_the_default_pod_knows_pods_by_name(
    helm: Helm, start: Callable[..., Container], tmp_path: Path
) -> None:
    root = tmp_path / "cluster-node"
    root.mkdir()
    tmp_path.chmod(0o755)
    node = Machine(root, host_file="k8s-v2-systemd")
    (root / "var/lib/kubelet/pod-resources").mkdir(parents=True, exist_ok=True)
    pod = pod_of(only(helm.render(CHART), "DaemonSet"))
    (container,) = pod["containers"]
    running = start(*options(pod, container, node, tmp_path), arguments=arguments(container))
    named = 'workload_pod="'
    text = running.until(lambda text: named in text)
    pods = {part.partition('"')[0] for part in text.split(named)[1:]}
    assert {"resnet-0", "kube-apiserver-node1"} <= pods


def test_mode_root_measures_rapl_without_any_capability(
    helm: Helm, node: Machine, start: Callable[..., Container], tmp_path: Path
) -> None:
    pod = pod_of(only(helm.render(CHART, {"rapl": {"mode": "root"}}), "DaemonSet"))
    (container,) = pod["containers"]
    running = start(*options(pod, container, node, tmp_path), arguments=arguments(container))
    text = running.until(lambda text: bool(rapl(text)))
    assert rapl(text)
    assert 'reason="DENIED"' not in text
    assert running.stop() == 0


def test_mode_group_measures_rapl_as_nobody_after_the_init_container(
    helm: Helm,
    node: Machine,
    engine: Engine,
    start: Callable[..., Container],
    tmp_path: Path,
) -> None:
    values = {"rapl": {"mode": "group", "group": GROUP}}
    pod = pod_of(only(helm.render(CHART, values), "DaemonSet"))
    (init,) = pod["initContainers"]
    entry, *rest = init["command"]
    init_options = options(pod, init, node, tmp_path)
    said = engine.done("run", "--rm", *STRICT, *init_options, f"--entrypoint={entry}", IMAGE, *rest)
    counters = list((node.root / RAPL).rglob("energy_uj"))
    assert said.startswith(f"{len(counters)} RAPL counters")
    assert {(path.stat().st_gid, path.stat().st_mode & 0o777) for path in counters} == {
        (GROUP, 0o440)
    }
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsUser"] == NOBODY
    running = start(*options(pod, container, node, tmp_path), arguments=arguments(container))
    assert rapl(running.until(lambda text: bool(rapl(text))))


def test_mode_group_starts_on_a_machine_without_rapl(
    helm: Helm, engine: Engine, image: str, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    bare = Machine(tmp_path)
    (tmp_path / "sys/devices/virtual").mkdir(parents=True)
    pod = pod_of(only(helm.render(CHART, {"rapl": {"mode": "group"}}), "DaemonSet"))
    (init,) = pod["initContainers"]
    entry, *rest = init["command"]
    init_options = options(pod, init, bare, tmp_path)
    said = engine.done("run", "--rm", *STRICT, *init_options, f"--entrypoint={entry}", image, *rest)
    assert said.startswith("0 RAPL counters")


def test_the_facility_pod_measures_no_node(
    helm: Helm, node: Machine, start: Callable[..., Container], tmp_path: Path
) -> None:
    values = {"facility": {"enabled": True, "config": {"sampling": {"tick": "1s"}}}}
    manifests = helm.render(CHART, values)
    deployment = only(manifests, "Deployment")
    pod, container = pod_of(deployment), container_of(deployment)
    config = only(manifests, "ConfigMap")["data"]["joulefloor.yaml"]
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "joulefloor.yaml").write_text(config)
    running = start(*options(pod, container, node, tmp_path), arguments=arguments(container))
    text = running.until(lambda text: "process_resident_memory_bytes" in text)
    assert "process_resident_memory_bytes" in text
    assert "joulefloor_build_info" in text
    assert "joulefloor_component_energy_joules_total" not in text
    assert not [
        line
        for line in text.splitlines()
        if line.startswith("joulefloor_source_up") and line.endswith(" 0.0")
    ], "a source that is absent is no fault"


def test_helm_test_passes_on_a_daemon_and_fails_on_none(
    helm: Helm, engine: Engine, image: str, start: Callable[..., Container]
) -> None:
    daemon = start()
    port = daemon.url.rpartition(":")[2]
    pod = only(helm.render(CHART), "Pod")["spec"]
    (scrape,) = pod["containers"]
    entry, *rest = scrape["command"]
    user = f"--user={pod['securityContext']['runAsUser']}"
    run = ("run", "--rm", *STRICT, user, f"--entrypoint={entry}", image)

    def asked(where: str) -> int:
        words = {"watts-joulefloor": "127.0.0.1", "13806": where}
        return engine.ask(*run, *(words.get(word, word) for word in rest)).returncode

    assert eventually(lambda: asked(port) == 0, within_s=PATIENCE_S)
    assert asked("9") != 0
