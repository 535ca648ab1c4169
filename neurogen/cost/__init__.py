"""What an experiment will cost, on one GPU and on several."""
