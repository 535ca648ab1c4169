"""A graph of steps as SLURM jobs or as local processes: submission, queue, status."""
