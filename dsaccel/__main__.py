"""`python -m dsaccel`: the command line."""

from dsaccel.cli import main

main()
