"""`python -m bct.cli`: the same as `bct`."""

from bct.cli.main import main

main()
