"""`make e2e` without a cluster: what it installs is valid; it starts, asks and cleans up."""

from __future__ import annotations

import json
import tempfile
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, Final

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from tests.chart.helm import CHART, container_of, only, pod_of
from tests.e2e import __main__ as program
from tests.e2e import checks, kind, kubectl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.chart.helm import Helm, Manifest

    Stub = Callable[..., Path]

EXPOSITION: Final = b'joulefloor_source_up{source="workloads"} 1.0\n'
CLEANED: Final = f"kind delete cluster --name {kind.CLUSTER}"


def pods() -> list[Manifest]:
    """The namespace, then the pods."""
    return list(yaml.safe_load_all(kind.PODS.read_text(encoding="utf-8")))


# -- what is installed ----------------------------------------------------------------------------


def test_the_pods_of_the_checks_are_what_kubernetes_knows() -> None:
    for manifest in (*pods(), kubectl.sleeper(checks.LATER, kind.IMAGE)):
        kubernetes_validate.validate(manifest, "1.37", strict=True)


def test_they_are_the_ones_that_the_checks_look_for_and_need_no_registry() -> None:
    namespace, *rest = (one["metadata"] for one in pods())
    assert namespace["name"] == checks.NAMESPACE
    assert {one["name"] for one in rest} == {checks.STRESSED, checks.IDLE}
    assert {one["namespace"] for one in rest} == {checks.NAMESPACE}
    containers = [container for pod in pods()[1:] for container in pod["spec"]["containers"]]
    assert {one["image"] for one in containers} == {kind.IMAGE}
    assert {one["imagePullPolicy"] for one in containers} == {"Never"}


def test_the_strictest_pod_security_admission_lets_them_in() -> None:
    made = [*pods()[1:], kubectl.sleeper(checks.LATER, kind.IMAGE)]
    for container in [container for pod in made for container in pod["spec"]["containers"]]:
        assert container["securityContext"] == kubectl.CONFINED


def test_the_chart_takes_the_values_and_the_image_that_was_built(helm4: Helm) -> None:
    values = yaml.safe_load(kind.VALUES.read_text(encoding="utf-8"))
    daemonset = only(
        helm4.render(CHART, values, "--set", f"fullnameOverride={kind.RELEASE}"), "DaemonSet"
    )
    assert daemonset["metadata"]["name"] == kind.RELEASE
    container = container_of(daemonset)
    assert container["image"] == f"docker.io/library/{kind.IMAGE}"
    assert container["imagePullPolicy"] == "Never"
    paths = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/host/proc", "/host/sys", "/host/var/log/pods"} <= paths
    context = pod_of(daemonset)["securityContext"] | container["securityContext"]
    assert context["runAsUser"] == 0
    assert context["capabilities"] == {"drop": ["ALL"]}


# -- how it runs ----------------------------------------------------------------------------------


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """Programs that note how they were called, alone on the PATH but for the shell's own."""
    log = tmp_path / "log"
    log.touch()
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def make(*names: str, then: str = "") -> Path:
        for name in names:
            file = folder / name
            file.write_text(f'#!/bin/sh\necho "{name} $*" >>{log}\n{then}\n')
            file.chmod(0o755)
        return log

    return make


@pytest.fixture
def daemon() -> Iterator[int]:
    """The port of somebody who answers as a daemon would."""

    class Answer(BaseHTTPRequestHandler):
        """One exposition for every path."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(EXPOSITION)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def every_call_is_made(cluster: checks.Cluster) -> str:
    """A check that asks a cluster for all it can do."""
    cluster.restart_kubelet()
    cluster.start(checks.LATER)
    cluster.delete(checks.STRESSED)
    (sample,) = cluster.read(checks.UP)
    return f"the daemon says {sample.value:.0f}"


def test_without_its_programs_it_says_which_and_starts_nothing(
    stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    log = stub("docker", "helm")
    assert program.main([]) == 2
    assert "needs kind, kubectl on the PATH; nothing was started" in capsys.readouterr().out
    assert log.read_text() == ""


def test_without_a_docker_daemon_it_says_so_and_starts_nothing(
    stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    stub("kind", "kubectl", "helm")
    log = stub("docker", then="exit 1")
    assert program.main([]) == 2
    assert "needs a running Docker daemon" in capsys.readouterr().out
    assert log.read_text() == "docker info\n"


def test_it_builds_installs_asks_and_takes_everything_away(
    stub: Stub, daemon: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "CHECKS", (every_call_is_made,))
    stub("kind", "docker", "helm")
    forward = (
        f'case "$*" in *port-forward*) echo "Forwarding from 127.0.0.1:{daemon} -> 13806";; esac'
    )
    log = stub("kubectl", then=f'{forward}\ncase "$*" in *port-forward*) read _;; esac')
    assert program.main([]) == 0
    said = log.read_text().splitlines()
    assert [line.split()[0] for line in said[:5]] == ["docker", "docker", "kind", "kind", "helm"]
    assert said[-1] == CLEANED
    assert f"docker exec {kind.NODE} systemctl restart kubelet" in said
    assert any("port-forward daemonset/joulefloor :13806" in line for line in said)
    assert any(f"delete pod {checks.STRESSED}" in line for line in said)
    assert "ok      every call is made: the daemon says 1" in capsys.readouterr().out


def test_a_check_that_fails_is_told_and_ends_with_1_and_a_clean_machine(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(_: checks.Cluster) -> str:
        raise checks.CheckError("it went to system 100.0%")

    monkeypatch.setattr(program, "CHECKS", (check,))
    log = stub("kind", "docker", "kubectl", "helm")
    assert program.main([]) == 1
    assert "FAILED  check: it went to system 100.0%" in capsys.readouterr().out
    assert log.read_text().splitlines()[-1] == CLEANED


def test_a_program_that_fails_is_told_with_what_it_said_and_leaves_nothing(
    stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    stub("kind", "docker", "kubectl")
    log = stub("helm", then="echo no such chart >&2; exit 7")
    assert program.main([]) == 1
    assert "ended with 7: no such chart" in capsys.readouterr().out
    assert log.read_text().splitlines()[-1] == CLEANED


def test_keep_leaves_the_cluster_and_says_how_to_end_it(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "CHECKS", ())
    log = stub("kind", "docker", "kubectl", "helm")
    assert program.main(["--keep"]) == 0
    assert CLEANED not in log.read_text()
    assert CLEANED in capsys.readouterr().out


# -- on a cluster that is there -------------------------------------------------------------------

DAEMONSET: Final[dict[str, Any]] = {
    "spec": {
        "selector": {"matchLabels": {"app.kubernetes.io/component": "node"}},
        "template": {
            "spec": {
                "containers": [
                    {"name": "proxy", "image": "proxy:1"},
                    {
                        "name": "joulefloor",
                        "image": "registry.example/joulefloor:1.2.3",
                        "ports": [{"name": "metrics", "containerPort": 9999}],
                    },
                ]
            }
        },
    }
}
TAKEN_AWAY: Final = f"kubectl delete namespace {checks.NAMESPACE} --ignore-not-found"


def daemon_of(node: str, *, ready: bool = True) -> dict[str, Any]:
    condition = {"type": "Ready", "status": str(ready)}
    return {
        "metadata": {"name": f"joulefloor-{node}"},
        "spec": {"nodeName": node},
        "status": {"conditions": [condition]},
    }


@pytest.fixture
def cluster(stub: Stub, tmp_path: Path, daemon: int) -> Callable[..., Path]:
    """A kubectl that knows a DaemonSet and its pods, and forwards on the given tries."""

    def make(*daemons: dict[str, Any], unreachable: int = 0) -> Path:
        for name, answer in (("daemonset", DAEMONSET), ("pods", {"items": daemons})):
            (tmp_path / name).write_text(json.dumps(answer))
        (tmp_path / "unreachable").write_text("x" * unreachable)
        forwarded = f'echo "Forwarding from 127.0.0.1:{daemon} -> 9999"; read _'
        return stub(
            "kubectl",
            then=f"""case "$*" in
*"get daemonset"*) IFS= read -r text <{tmp_path}/daemonset; echo "$text";;
*"get pods"*) IFS= read -r text <{tmp_path}/pods; echo "$text";;
*"apply -f -"*) IFS= read -r text; printf '%s\\n' "$text" >>{tmp_path}/applied;;
*port-forward*) IFS= read -r left <{tmp_path}/unreachable
  case "$left" in x*) echo "${{left#x}}" >{tmp_path}/unreachable; echo no such node; exit 1;; esac
  {forwarded};;
esac""",
        )

    return make


def applied(tmp_path: Path) -> list[Manifest]:
    lines = (tmp_path / "applied").read_text().splitlines()
    return [one for line in lines for one in json.loads(line)["items"]]


def test_a_cluster_that_is_there_gets_the_pods_from_its_own_image_on_one_node(
    cluster: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(program, "CHECKS", (every_call_is_made,))
    log = cluster(daemon_of("node1"), daemon_of("node2"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:/bin")
    restarted = tmp_path / "restarted"
    options = ["--daemonset=watts/joulefloor", "--node=node2"]
    assert program.main([*options, f"--restart-kubelet=echo >{restarted}"]) == 0
    assert restarted.exists()
    said = log.read_text().splitlines()
    assert said[0] == "kubectl -n watts get daemonset joulefloor --output=json"
    assert "kubectl -n watts port-forward pod/joulefloor-node2 :9999" in said
    assert "kubectl wait --for=condition=Ready node/node2 --timeout=120s" in said
    assert any(f"delete pod {checks.STRESSED}" in line for line in said)
    assert said[-1] == TAKEN_AWAY
    namespace, *made = applied(tmp_path)
    assert namespace["metadata"]["name"] == checks.NAMESPACE
    named = [pod["metadata"]["name"] for pod in made]
    assert named == [checks.STRESSED, checks.IDLE, checks.LATER]
    for pod in made:
        kubernetes_validate.validate(pod, "1.37", strict=True)
        assert pod["spec"]["nodeName"] == "node2"
        assert container_image(pod) == "registry.example/joulefloor:1.2.3"
    assert "ok      every call is made: the daemon says 1" in capsys.readouterr().out


def container_image(pod: Manifest) -> str:
    (container,) = pod["spec"]["containers"]
    image: str = container["image"]
    return image


def test_without_a_way_to_restart_the_kubelet_that_check_is_left_out_and_said(
    cluster: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(program, "CHECKS", (checks.kubelet_restart_is_survived,))
    cluster(daemon_of("node1"))
    assert program.main(["--daemonset=joulefloor/joulefloor"]) == 0
    assert "left    kubelet restart is survived: nobody said how" in capsys.readouterr().out


def test_of_several_nodes_one_must_be_named_and_its_daemon_be_ready(
    cluster: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = cluster(daemon_of("node1"), daemon_of("node2"), daemon_of("node3", ready=False))
    assert program.main(["--daemonset=joulefloor/joulefloor"]) == 1
    assert program.main(["--daemonset=joulefloor/joulefloor", "--node=node3"]) == 1
    told = "joulefloor/joulefloor is ready on node1, node2: say --node with one of them"
    assert capsys.readouterr().out.count(told) == 2
    assert not (tmp_path / "applied").exists()
    assert TAKEN_AWAY not in log.read_text()


def test_while_the_kubelet_restarts_the_way_to_the_daemon_is_tried_again(
    cluster: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(there: checks.Cluster) -> str:
        (sample,) = there.read(checks.UP)
        return f"{sample.value:.0f}"

    monkeypatch.setattr(program, "CHECKS", (check,))
    log = cluster(daemon_of("node1"), unreachable=2)
    assert program.main(["--daemonset=joulefloor/joulefloor"]) == 0
    assert log.read_text().count("port-forward") == 3


def test_a_daemon_that_cannot_be_reached_is_told_with_kubectls_words(
    cluster: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(kubectl, "REACHED_S", 0.0)
    log = cluster(daemon_of("node1"), unreachable=9)
    assert program.main(["--daemonset=joulefloor/joulefloor"]) == 1
    assert "no such node" in capsys.readouterr().out
    assert log.read_text().splitlines()[-1] == TAKEN_AWAY
