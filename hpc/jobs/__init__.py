"""A graph of steps as SLURM jobs or local processes: submission, queue, status."""
