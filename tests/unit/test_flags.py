"""The flags of `run`: what the daemon reads itself is what click would have read."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulefloor import flags
from joulefloor.cli import run

# No argument of a program can hold the character 0.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
VALUES = TEXT | st.sampled_from(["info", "json", "/host", ":0", "[::1]:9", "a=b"])
WORDS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(flags.RUN), VALUES).map(lambda it: [f"--{it[0].name}={it[1]}"]),
        st.tuples(st.sampled_from(flags.RUN), VALUES).map(lambda it: [f"--{it[0].name}", it[1]]),
        VALUES.map(lambda word: [word]),
    ),
    max_size=5,
).map(lambda groups: [word for group in groups for word in group])


def by_click(words: list[str]) -> flags.Options:
    with run.make_context("run", list(words)) as context:
        return flags.Options(**context.params)


@given(WORDS)
def test_what_is_read_without_click_is_what_click_reads(words: list[str]) -> None:
    options = flags.read_flags(words)
    if options is not None:
        assert options == by_click(words)


def test_every_flag_is_read_without_click() -> None:
    words = [
        "--config.file=a.yaml",
        "--web.listen-address=:1",
        "--web.listen-address",
        "127.0.0.1:2",
        "--web.telemetry-path",
        "/m",
        "--web.config.file=web.yaml",
        "--path.rootfs=/host",
        "--log.level=debug",
        "--log.format",
        "json",
    ]
    options = flags.read_flags(words)
    assert options is not None
    assert options == by_click(words)
    assert options.addresses == (":1", "127.0.0.1:2")
    assert all(getattr(options, flag.field) != flag.default for flag in flags.RUN)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["-h"],
        ["--log.level"],
        ["--log.level=loud"],
        ["--no-such-flag=1"],
        ["words"],
    ],
)
def test_what_needs_explaining_is_left_to_click(words: list[str]) -> None:
    assert flags.read_flags(words) is None
    with pytest.raises((click.UsageError, click.exceptions.Exit)):
        by_click(words)
