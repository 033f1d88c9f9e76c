"""Other people's exporters for the tests of the adapters: samples of their text, and a real one.

Every counter of a sample has run for 30,000 s at its present rate: in 30 s it gains a thousandth of
its value, and its value in joules over 30,000 is its watts.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from stack.processes import LOOPBACK, free_port, launch
from stack.query import instant
from tests.machine import Machine
from tests.prom.required import require
from tests.served import served

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

SAMPLES: Final = Path(__file__).parent / "expositions" / "adapters"
REAL: Final = "node_exporter_real"
"""A target that is no sample: the node_exporter of this machine on a recorded machine's files."""


class Watts(NamedTuple):
    """What the rules must find on one machine, in watts; 0 stands for no series."""

    machine: str
    cpu: float = 0
    dram: float = 0
    gpu: float = 0
    wall: float = 0
    method: str = "measured"


class Target(NamedTuple):
    """How a sample is scraped (labels of the target), and what it must come to."""

    labels: Mapping[str, str]
    watts: Watts


TARGETS: Final[Mapping[str, Target]] = {
    "dcgm": Target(
        {"instance": "10.0.0.5:9400", "pod": "dcgm-x7", "namespace": "gpu", "container": "dcgm"},
        # Shared by pods (with and without the label vgpu) or cut: each board counts once.
        Watts("old-names", gpu=300 + 200 + 27),
    ),
    "dcgm_46": Target(
        {"instance": "10.0.0.6:9400", "hostname": "10.0.0.6", "pod": "dcgm-x8"},
        # The second and the third GPU have no counter, the third has no average.
        Watts("new-names", gpu=410 + 70 + 65.25),
    ),
    "dcgm_gh200": Target({"instance": "10.0.0.7:9400"}, Watts("superchip", gpu=402.5 + 97.5)),
    "nvidia_gpu_exporter_exec": Target({"instance": "smi:9835"}, Watts("smi", gpu=71.5 + 33.25)),
    "nvidia_gpu_exporter_nvml": Target(
        {"instance": "[2001:db8::7]:9835", "node": "nvml"}, Watts("nvml", gpu=690 + 310)
    ),
    # One counter is right, one is frozen, one counts ten times too much; partitions have none.
    "amd": Target(
        {"instance": "10.0.0.9:5000", "pod": "dme-1"}, Watts("instinct", gpu=600 + 140 + 590)
    ),
    "amd_mi250": Target({"instance": "10.0.0.10:5000"}, Watts("mi250", gpu=420)),
    "kepler": Target(
        {"instance": "10.0.0.11:28282"},
        Watts("kepler-new", cpu=32 + 70, dram=5 + 7.5, gpu=33, wall=260),
    ),
    "kepler_09": Target(
        {"instance": "10.0.0.12:9102"},
        Watts("kepler-old", cpu=40 + 60, dram=4 + 6, gpu=10 + 18, wall=160),
    ),
    "kepler_09_vm": Target(
        {"instance": "10.0.0.13:9102"}, Watts("kepler-vm", cpu=7 + 18, dram=3, method="modelled")
    ),
    "scaphandre": Target({"instance": "scaph:8080"}, Watts("scaph", cpu=90 + 84, dram=6 + 5)),
    "ceems": Target(
        {"instance": "10.0.0.14:9010"}, Watts("ceems-new", cpu=110 + 120, dram=7 + 8, wall=542)
    ),
    "ceems_010": Target(
        {"instance": "ceems-old:9010"}, Watts("ceems-old", cpu=63, dram=3.7, wall=118)
    ),
    # Chassis that contain each other are no wall meter.
    "ceems_chassis": Target({"instance": "10.0.0.16:9010"}, Watts("ceems-chassis", cpu=50)),
    "ceems_ipmi": Target({"instance": "10.0.0.15:9010"}, Watts("ceems-ipmi", wall=205)),
    "node_exporter": Target(
        {"instance": "db1.example.org:9100", "cluster": "c1", "rack": "r1"},
        Watts("db1.example.org", cpu=2.7 + 8, dram=1.1 + 0.9, wall=412),
    ),
    # Firmware's socket power before RAPL; two ACPI meters are rails, not the machine.
    "node_exporter_zones": Target({"instance": "epyc"}, Watts("epyc", cpu=205.5)),
    REAL: Target(
        {"instance": "intel-2s:9100"},
        Watts("intel-2s", cpu=(81 + 262.143) / 30, dram=(22 + 19) / 30, wall=412),
    ),
}


def serving_samples() -> AbstractContextManager[str]:
    """Serve each sample under its name, as exporters do; yields host:port."""
    return served(lambda name: (SAMPLES / f"{name}.txt").read_bytes())


@contextmanager
def real_node_exporter(directory: Path) -> Iterator[str]:
    """Run node_exporter on the files of a two-socket machine; yields host:port."""
    root = directory / "machine"
    root.mkdir()
    Machine(root, host_file="intel-2s")
    port = free_port()
    command: list[str | Path] = [
        require("node_exporter").path,
        f"--web.listen-address={LOOPBACK}:{port}",
        f"--path.sysfs={root / 'sys'}",
        "--web.disable-exporter-metrics",
        "--collector.disable-defaults",
        "--collector.rapl",
        "--collector.hwmon",
    ]
    with launch("node_exporter", command, port=port, directory=directory) as peer:
        peer.await_ready("/")
        yield f"{LOOPBACK}:{port}"


def scrape_config(addresses: Mapping[str, str]) -> dict[str, object]:
    """Scrape each target once a second, with its labels, as a job of its name."""
    jobs = [
        {
            "job_name": name,
            "metrics_path": "/metrics" if name == REAL else f"/{name}",
            "static_configs": [{"targets": [addresses[name]], "labels": dict(target.labels)}],
        }
        for name, target in TARGETS.items()
    ]
    return {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}


def series_of(url: str, at_unix_s: float) -> list[dict[str, str]]:
    """Labels and, as `value`, the value of every series that came from a target."""
    found = instant(url, '{job=~".+",__name__!~"up|scrape_.*|node_scrape_.*"}', at_unix_s=at_unix_s)
    return sorted(
        (series["metric"] | {"value": series["value"][1]} for series in found),
        key=lambda series: sorted(series.items()),
    )
