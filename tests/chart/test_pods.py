"""What the pods may do: the least that works, in every set of values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chart.helm import CHART, container_of, only, pod_of
from tests.chart.test_snapshots import SETS, values_of

if TYPE_CHECKING:
    from tests.chart.helm import Helm, Manifest

WORKLOADS = ("DaemonSet", "Deployment")


def our_containers(manifests: list[Manifest]) -> list[Manifest]:
    """Every container of the chart's own image."""
    pods = [pod_of(one) for one in manifests if one["kind"] in WORKLOADS]
    pods += [one["spec"] for one in manifests if one["kind"] == "Pod"]
    return [
        container
        for pod in pods
        for container in [*pod.get("initContainers", []), *pod["containers"]]
        if "joulefloor/joulefloor" in container["image"]
    ]


@pytest.mark.parametrize("name", SETS)
def test_no_container_is_privileged_or_has_a_capability(name: str, helm4: Helm) -> None:
    containers = our_containers(helm4.render(CHART, values_of(name)))
    assert containers
    for container in containers:
        context = container["securityContext"]
        assert context["privileged"] is False
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", SETS)
def test_the_api_server_is_never_asked(name: str, helm4: Helm) -> None:
    manifests = helm4.render(CHART, values_of(name))
    kinds = {one["kind"] for one in manifests}
    assert not [kind for kind in kinds if "Role" in kind]
    for one in manifests:
        if one["kind"] in WORKLOADS:
            assert pod_of(one)["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", SETS)
def test_the_host_is_mounted_read_only(name: str, helm4: Helm) -> None:
    for one in helm4.render(CHART, values_of(name)):
        if one["kind"] in WORKLOADS:
            assert all(mount["readOnly"] for mount in container_of(one)["volumeMounts"])


def test_a_probe_may_be_given_or_taken_away(helm: Helm) -> None:
    given = {"exec": {"command": ["python", "-c", "pass"]}}
    manifests = helm.render(CHART, {"readinessProbe": given}, "--set", "livenessProbe=null")
    container = container_of(only(manifests, "DaemonSet"))
    assert "livenessProbe" not in container
    assert container["readinessProbe"] == given | {"periodSeconds": 10, "timeoutSeconds": 5}
    without = helm.render(CHART, {"livenessProbe": None, "readinessProbe": None})
    assert not [key for key in container_of(only(without, "DaemonSet")) if "Probe" in key]


def test_rapl_is_left_alone_unless_asked_for(helm4: Helm) -> None:
    pod = pod_of(only(helm4.render(CHART), "DaemonSet"))
    assert pod["securityContext"]["runAsUser"] == 65534
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert "initContainers" not in pod


def test_rapl_mode_root_is_uid_0_and_nothing_else(helm4: Helm) -> None:
    pod = pod_of(only(helm4.render(CHART, {"rapl": {"mode": "root"}}), "DaemonSet"))
    assert pod["securityContext"]["runAsUser"] == 0
    assert pod["securityContext"]["runAsNonRoot"] is False
    assert "initContainers" not in pod


def test_rapl_mode_group_is_root_only_in_the_init_container(helm4: Helm) -> None:
    pod = pod_of(only(helm4.render(CHART, {"rapl": {"mode": "group", "group": 7}}), "DaemonSet"))
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["supplementalGroups"] == [7]
    (init,) = pod["initContainers"]
    assert init["securityContext"]["runAsUser"] == 0


def test_the_facility_daemon_sees_no_node_whatever_the_nodes_do(helm4: Helm) -> None:
    values = {"facility": {"enabled": True}, "rapl": {"mode": "root"}, "hostPID": True}
    pod = pod_of(only(helm4.render(CHART, values), "Deployment"))
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
    assert pod["securityContext"]["runAsUser"] == 65534
    assert "hostPID" not in pod


def test_selectors_tell_roles_and_releases_apart(helm4: Helm) -> None:
    manifests = helm4.render(CHART, {"facility": {"enabled": True}})
    workloads = [one for one in manifests if one["kind"] in WORKLOADS]
    for one in workloads:
        selector = one["spec"]["selector"]["matchLabels"]
        others = [other for other in workloads if other is not one]
        assert selector.items() <= one["spec"]["template"]["metadata"]["labels"].items()
        for other in others:
            assert not selector.items() <= other["spec"]["template"]["metadata"]["labels"].items()
    services = {
        one["spec"]["selector"]["app.kubernetes.io/component"]
        for one in manifests
        if one["kind"] == "Service"
    }
    assert services == {"node", "facility"}


def test_a_restarted_pod_continues_its_series(helm4: Helm) -> None:
    manifests = helm4.render(CHART, {"monitor": {"enabled": True, "cluster": "north"}})
    (endpoint,) = only(manifests, "PodMonitor")["spec"]["podMetricsEndpoints"]
    relabelings = endpoint["relabelings"]
    by_target = {one["targetLabel"]: one for one in relabelings if "targetLabel" in one}
    assert by_target["instance"]["sourceLabels"] == ["__meta_kubernetes_pod_node_name"]
    assert "joulefloor" in by_target["job"]["replacement"], "the alerts look for it"
    assert by_target["cluster"]["replacement"] == "north"
    assert "pod" in relabelings[-1]["regex"].split("|")


def test_two_daemons_never_run_on_one_node(helm4: Helm) -> None:
    manifests = helm4.render(CHART, {"facility": {"enabled": True}})
    rolling = only(manifests, "DaemonSet")["spec"]["updateStrategy"]["rollingUpdate"]
    assert rolling["maxSurge"] == 0
    assert only(manifests, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
