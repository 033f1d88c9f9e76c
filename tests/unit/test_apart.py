"""YAML read in a child is the YAML read here: the same settings, the same problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from joulefloor.apart import load_yaml_apart
from joulefloor.config import load
from joulefloor.errors import ConfigError
from joulefloor.plugins import installed

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
sampling:
  tick: 2s
meters:
  prefer: [acpi, rapl]
static_power:
  start: {cpu: 40W}
sources:
  cpu: &quick
    period: 500ms
  process: *quick
  simulated:
    enabled: true
"""
BAD = [
    "sampling: {tock: 1s}\nsources:\n  cpu: {period: 1}\n",
    "sampling: [",
    "",
    "a: 1\n---\nb: 2\n",
    "a: &a [*a]\n",
    "[" * 5_000,
    "\x00",
]


def test_settings_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    config = load(file, installed(), load_yaml_apart)
    assert config == load(file, installed())
    assert config.sampling.tick == 2.0


@pytest.mark.parametrize("text", BAD)
def test_problems_are_the_same(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as here:
        load(file, installed())
    with pytest.raises(ConfigError) as there:
        load(file, installed(), load_yaml_apart)
    assert str(there.value) == str(here.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load(tmp_path / "none.yaml", installed(), load_yaml_apart)
