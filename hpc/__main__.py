"""The command `python -m hpc PROGRAM BATCH_FOLDER INDEX`, which is hpc.jobs.job.

What it prints is a log, so it is UTF-8 whatever the locale.
"""

import io
import sys

from hpc.jobs.job import main

for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
main()
