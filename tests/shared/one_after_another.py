"""The command line with several configurations, one after another, so that processes are launched once. Launched by processes.py."""

import sys

from vlreward.cli import main

command, *files = sys.argv[1:]
for file in files:
    if code := main([command, file]):
        sys.exit(code)
