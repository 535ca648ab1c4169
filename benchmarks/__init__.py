"""What the program costs: `gpu.py` on one GPU, `commands.py` for what a user waits for at a terminal."""
