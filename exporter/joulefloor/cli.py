"""The command line: wires everything top to bottom, turns errors into one message and a code.

Exit codes: 0 done, 2 the input cannot be used (each problem on its line), else what a measured
command returned.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click

from joulefloor import __version__, flags
from joulefloor.clock import SystemClock
from joulefloor.errors import JoulefloorError
from joulefloor.flags import UNUSABLE
from joulefloor.host import Host
from joulefloor.log import Log, Severity
from joulefloor.plugins import installed

if TYPE_CHECKING:
    from collections.abc import Callable

    from joulefloor.assembly import Built, Probe
    from joulefloor.config import Config
    from joulefloor.flags import Flag
    from joulefloor.sources import Source

    Command = Callable[..., Any]

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def _option(flag: Flag) -> Callable[[Command], Command]:
    """A flag of the daemon as click shows it."""
    kind: click.ParamType[Any] | None = None
    if flag.is_path:
        kind = click.Path(path_type=Path)
    elif flag.choices:
        kind = click.Choice(flag.choices)
    return click.option(
        f"--{flag.name}",
        flag.field,
        type=kind,
        multiple=flag.many,
        default=flag.default,
        show_default=flag.shown,
        metavar=flag.metavar,
        help=flag.help or None,
    )


_config = _option(flags.CONFIG)
_root = _option(flags.ROOT)
_output = click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="joulefloor")
def cli() -> None:
    """Joules per component, workload and inference, against the Landauer floor."""


def main() -> None:
    """Entry point: an error on purpose is one message on stderr and exit code 2."""
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(UNUSABLE)
    except JoulefloorError as error:
        _give_up(error)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        # So that Python does not try, and fail, to write the rest when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _give_up(JoulefloorError(f"standard output cannot be written: {error.strerror}"))


def _give_up(error: JoulefloorError) -> NoReturn:
    click.echo(f"joulefloor: {error}", err=True)
    sys.exit(UNUSABLE)


def _load(config_file: Path | None) -> Config:
    """Read the configuration; yaml is imported only if there is a file."""
    from joulefloor.config import load  # noqa: PLC0415  # 2.8 MiB of yaml

    return load(config_file, installed())


def _build(config: Config, rootfs: Path) -> tuple[Built, ...]:
    from joulefloor.assembly import build_sources, check_root  # noqa: PLC0415  # not for --help

    check_root(rootfs)
    return build_sources(config, installed(), Host(rootfs), SystemClock())


def _all_of_run(command: Command) -> Command:
    for flag in reversed(flags.RUN):
        command = _option(flag)(command)
    return command


@cli.command()
@_all_of_run
def run(**options: Any) -> None:  # noqa: ANN401  # click hands over keywords
    """Run the daemon until SIGTERM, SIGHUP or Ctrl-C."""
    from joulefloor.daemon import serve  # noqa: PLC0415  # server code, only here

    raise click.exceptions.Exit(serve(flags.Options(**options)))


@cli.command()
@_config
@_root
@_output
def sources(config_file: Path | None, rootfs: Path, output: str) -> None:
    """Show what this machine offers, what is denied or absent, and how to mend it."""
    from joulefloor.assembly import probe  # noqa: PLC0415  # not for --help

    built = _build(_load(config_file), rootfs)
    probes = [probe(source) for _, source, _ in built]
    if output == "json":
        from json import dumps  # noqa: PLC0415  # rarely asked for

        click.echo(dumps([found._asdict() for found in probes], indent=2))
        return
    for found in probes:
        click.echo(_describe(found))


def _describe(found: Probe) -> str:
    channels = f", {len(found.channels)} channels" if found.channels else ""
    lines = [f"{found.source}: {found.state}{channels}"]
    lines += [f"  {channel}" for channel in found.channels]
    lines += [f"  ! {fault}" for fault in found.faults]
    return "\n".join(lines)


@cli.command("check-config")
@click.argument("file", type=click.Path(path_type=Path))
def check_config(file: Path) -> None:
    """Check a configuration file; prints every problem with its line."""
    config = _load(file)
    on = [name for name, source in config.sources.items() if source.enabled]
    click.echo(f"{file}: good; sources: {', '.join(on) or 'none'}")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@_root
def capture(file: Path, rootfs: Path) -> None:
    """Write this machine's meters to FILE as a host fixture, identities masked ("-": stdout)."""
    from joulefloor.assembly import build_sources, check_root  # noqa: PLC0415  # not for --help
    from joulefloor.capture import capture as record  # noqa: PLC0415  # only here

    check_root(rootfs)
    config = _load(None)

    def everything(host: Host) -> list[Source]:
        built = build_sources(config, installed(), host, SystemClock(), unused=True)
        return [row.source for row in built]

    text = record(rootfs, everything)
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise JoulefloorError(f"{file}: cannot be written: {error.strerror}") from None
    count = sum(line.startswith(("file", "hex")) for line in text.splitlines())
    click.echo(f"{file}: {count} files recorded; read it before you publish it")


@cli.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_config
@_root
@_output
@click.option(
    "--output.file",
    "output_file",
    type=click.File("w", lazy=False),
    default="-",
    metavar="FILE",
    help="Where the report goes instead of standard error.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def measure(
    config_file: Path | None,
    rootfs: Path,
    output: str,
    output_file: IO[str],
    command: tuple[str, ...],
) -> None:
    """Run COMMAND and print the joules the machine spent; its exit code passes through."""
    from joulefloor.assembly import build_sampler  # noqa: PLC0415  # not for --help
    from joulefloor.measure import measure as spend  # noqa: PLC0415  # only here
    from joulefloor.measure import report, report_json  # noqa: PLC0415  # only here

    config = _load(config_file)
    clock = SystemClock()
    built = _build(config, rootfs)
    log = Log(clock, Severity.ERROR)
    everything = tuple(source for _, source, _ in built)
    sampler = build_sampler(config, everything, clock, log)
    measured = spend(command, sampler, clock, config.sampling.tick)
    sampler.stop(0.5)
    text = report_json(measured) if output == "json" else report(measured)
    if output_file.name != "<stdout>":
        try:
            output_file.write(text + "\n")
            output_file.flush()
        except OSError as error:  # the command cannot be run again for it
            text = f"{output_file.name}: cannot be written: {error.strerror}\n{text}"
        else:
            text = ""
    with suppress(OSError):  # nowhere to tell it, but how the command ended is told still
        click.echo(text, err=True, nl=bool(text))
    raise click.exceptions.Exit(measured.exit_code)


if __name__ == "__main__":
    main()
