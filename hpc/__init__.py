"""The cluster: a graph of steps becomes SLURM jobs, or local processes. Knows nothing of neural networks."""
