"""`python -m dsaccel`: the command line."""

from dsaccel.cli.app import main

main()
