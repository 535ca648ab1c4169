"""The command `python -m hpc BATCH_FOLDER [INDEX]`, which is hpc.jobs.job.

That module is imported here instead of being run: classes in the payload are pickled as members of hpc.jobs.job, not of
__main__.
"""

from hpc.jobs.job import main

main()
