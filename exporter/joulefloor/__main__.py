"""`python -m joulefloor` is `joulefloor`."""

from joulefloor.cli import main

main()
