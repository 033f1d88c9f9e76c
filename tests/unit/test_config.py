"""Bad input is told in full, with file, line and remedy; good input means what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulefloor.config import load
from joulefloor.errors import ConfigError
from joulefloor.plugins import installed

if TYPE_CHECKING:
    from pathlib import Path

PLUGINS = installed()


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, PLUGINS)
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "joulefloor.yaml"


def test_without_a_file_every_source_but_the_optional_ones_runs() -> None:
    config = load(None, PLUGINS)
    on = {name for name, source in config.sources.items() if source.enabled}
    assert on == {
        "cpu", "hwmon", "links", "model", "nvml", "process", "rapl", "sensors", "thermal",
        "workloads",
    }  # fmt: skip
    assert config.sampling.tick == 1.0


def test_quantities_are_read_with_their_units(file: Path) -> None:
    file.write_text(
        "sampling: {tick: 500ms}\n"
        "static_power: {start: {cpu: 40W, gpu: 0.05kW}}\n"
        "physics: {sink_temperature: 300K}\n"
        "meters: {prefer: [rapl-mmio, rapl]}\n"
        "sources:\n"
        "  model: {enabled: false}\n"
        "  rapl: {required: true, period: 2s}\n"
    )
    config = load(file, PLUGINS)
    assert config.sampling.tick == 0.5
    assert config.static_power.start == {"cpu": 40.0, "gpu": 50.0}
    assert config.physics.sink_temperature == pytest.approx(26.85)
    assert config.meters.prefer == ("rapl-mmio", "rapl")
    assert not config.sources["model"].enabled
    assert config.sources["rapl"].required
    assert getattr(config.sources["rapl"].settings, "period") == 2.0  # noqa: B009  # any settings


def test_all_problems_are_reported_at_once_with_their_lines(file: Path) -> None:
    file.write_text(
        "samplin: {tick: 1s}\n"
        "sampling:\n"
        "  tick: 5kg\n"
        "physics: {sink_temperature: 25}\n"
        "sources:\n"
        "  rapl: {perod: 1s}\n"
        "  raple: {}\n"
        "  cpu: {enabled: maybe}\n"
    )
    found = problems(file)
    assert len(found) == 6
    expected = [
        (":1: samplin: unknown key; did you mean 'sampling'?"),
        (":3: sampling.tick: expected a duration"),
        (":4: physics.sink_temperature: 25 has no unit"),
        (":7: sources.raple: unknown key; did you mean 'rapl'?"),
        (":8: sources.cpu.enabled: expected true or false, found 'maybe'"),
        (":6: sources.rapl.perod: unknown key; did you mean 'period'?"),
    ]
    for text in expected:
        assert any(text in line for line in found), (text, found)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"\xff\xfe\x00garbage", "is not text"),
        (b"a: [1, 2\n", "is not YAML"),
        (b"a: \x01\n", "is not YAML"),
        (b"- a\n- b\n", "expected keys and values, found a sequence"),
        (b"just words\n", "expected keys and values, found a scalar"),
        (b"sampling: {tick: 1s}\nsampling: {tick: 2s}\n", "sampling: is given twice"),
        (b"sampling: {tick: 1ms}\n", "tick: must be 0.1s to 60s, not 0.001s"),
        (b"sampling: {tick: [1s]}\n", "expected a duration"),
        (b"meters: {prefer: rapl}\n", "expected a list, found a scalar"),
        (b"static_power: {start: {cpu: -4W}}\n", "cannot be negative"),
        (b"{}\n---\n{}\n", "is not YAML"),
        (b"physics: {sink_temperature: -300degC}\n", "must be more than -273.15degC"),
        (b"physics: {sink_temperature: 0K}\n", "must be more than -273.15degC"),
        (b"static_power: {start: {cpuu: 40W}}\n", "unknown name 'cpuu'; did you mean 'cpu'?"),
        (b"meters: {prefer: [rapll]}\n", "unknown name 'rapll'; did you mean 'rapl'?"),
        (b"sources: {rapl: {period: 0s}}\n", "period: must be 0.1s to 30s, not 0s"),
        (b"sources: {rapl: {period: 31s}}\n", "period: must be 0.1s to 30s, not 31s"),
        (b"sources: {rapl: {deadline: 2s}}\n", "deadline: must be more than 0s, at most 1s"),
        (b"sources: {rapl: {deadline: 0s}}\n", "deadline: must be more than 0s, at most 1s"),
        (b"sources: {rapl: {limits_period: 0s}}\n", "limits_period: must be 1s or more"),
        (b"sources: {hwmon: {period: 31s}}\n", "period: must be 0.1s to 30s"),
        (b"sources: {hwmon: {deadline: 2s}}\n", "deadline: must be more than 0s, at most 1s"),
        (b"sources: {sensors: {period: 0s}}\n", "period: must be 0.1s or more"),
        (b"sources: {thermal: {deadline: 6s}}\n", "deadline: must be more than 0s, at most 5s"),
        (
            b"sources: {nvml: {start_deadline: 0s, power_period: 0s}}\n",
            "start_deadline: must be more than 0s, not 0s; power_period: must be more than 0s",
        ),
        (
            b"sources: {model: {watts_per_cpu_idle: 9W, watts_per_cpu_max: 3W}}\n",
            "watts_per_cpu_idle: 9W is above watts_per_cpu_max: 3W",
        ),
        (
            b"sources: {model: {gib_per_cpu_included: -1}}\n",
            "gib_per_cpu_included: must be 0 GiB or more, not -1 GiB",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    file: Path, content: bytes, says: str
) -> None:
    file.write_bytes(content)
    found = problems(file)
    assert any(says in line and str(file) in line for line in found), found


@pytest.mark.parametrize(
    "source", ["cpu", "links", "model", "nvml", "process", "simulated", "workloads"]
)
@pytest.mark.parametrize("key", ["period", "deadline"])
def test_no_source_takes_a_time_of_0(file: Path, source: str, key: str) -> None:
    file.write_text(f"sources: {{{source}: {{{key}: 0s}}}}\n")
    (told,) = problems(file)
    assert f"sources.{source}: {key}: must be more than 0s, not 0s" in told


def test_a_number_too_large_for_any_machine_is_refused(file: Path) -> None:
    file.write_text(f"sources: {{cpu: {{period: {'9' * 400}s}}}}\n")
    assert "must be more than 0s, not infs" in problems(file)[0]


def test_a_deadline_need_not_be_shortened_with_the_period(file: Path) -> None:
    names = ("rapl", "hwmon", "sensors", "thermal")
    file.write_text("sources:\n" + "".join(f"  {name}: {{period: 100ms}}\n" for name in names))
    assert load(file, PLUGINS)


def test_names_of_other_packages_meters_and_components_are_taken(file: Path) -> None:
    file.write_text(
        "meters: {prefer: [snmp, chiller, rapl]}\nstatic_power: {start: {cryocooler: 40W}}\n"
    )
    config = load(file, PLUGINS)
    assert config.meters.prefer == ("snmp", "chiller", "rapl")
    assert config.static_power.start == {"cryocooler": 40.0}


@pytest.mark.parametrize("value", ["true", "[a]", "{period: 1s, period: 2s}"])
def test_a_section_that_is_wrong_as_a_whole_is_told_once(file: Path, value: str) -> None:
    file.write_text(f"sources: {{rapl: {value}}}\n")
    assert len(problems(file)) == 1


def test_a_directory_or_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "Is a directory" in problems(tmp_path)[0]
    assert "No such file" in problems(tmp_path / "none.yaml")[0]


@given(st.binary(max_size=200))
def test_any_bytes_give_a_configuration_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(data)
    try:
        load(file, {})
    except ConfigError as error:
        told = error.problems
    else:
        told = ()
    assert all(problem.what for problem in told)


def test_sources_of_other_packages_are_found_by_the_same_entry_points(tmp_path: Path) -> None:
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(
        "[console_scripts]\nx = y:z\n\n[joulefloor.sources]\nchiller = stranger:build\n"
    )
    found = installed([str(tmp_path)])
    assert list(found) == ["chiller"]
    assert found["chiller"].target == "stranger:build"


def test_every_source_file_is_installed_under_its_name() -> None:
    """Editable installs do not refresh entry points: run `pip install -e .` when this fails."""
    from pathlib import Path  # noqa: PLC0415  # only here

    import joulefloor.sources  # noqa: PLC0415  # only here

    folder = Path(joulefloor.sources.__file__).parent
    targets = {plugin.target.partition(":")[0] for plugin in PLUGINS.values()}
    modules = {
        f"joulefloor.sources.{path.stem}"
        for path in folder.glob("*.py")
        if "\ndef build(" in path.read_text()
    }
    assert modules == targets
