"""`python -m hpc BATCH_FOLDER [INDEX]` is job.py: what was pickled as hpc.job must not be loaded as __main__."""

from hpc.job import main

main()
