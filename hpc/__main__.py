"""`python -m hpc BATCH_FOLDER [INDEX]` is job.py: what was pickled as hpc.jobs.job must not be loaded as __main__."""

from hpc.jobs.job import main

main()
