"""Entry point of `joulefloor` and of `python -m joulefloor`.

`run` goes straight to the daemon, without click and what click imports; everything else, and a
`run` that cannot be understood, goes to the command line proper.
"""

from __future__ import annotations

import sys

from joulefloor.errors import JoulefloorError


def main() -> None:
    """Run what was asked for; an error on purpose is one message on stderr and exit code 2."""
    if sys.argv[1:2] == ["run"]:
        from joulefloor.flags import UNUSABLE, read_flags  # noqa: PLC0415  # not for the other commands

        options = read_flags(sys.argv[2:])
        if options is not None:
            from joulefloor.daemon import serve  # noqa: PLC0415  # the same

            try:
                sys.exit(serve(options))
            except JoulefloorError as error:
                sys.stderr.write(f"joulefloor: {error}\n")
                sys.exit(UNUSABLE)
    from joulefloor.cli import main as command_line  # noqa: PLC0415  # click, not for the daemon

    command_line()


if __name__ == "__main__":
    main()
