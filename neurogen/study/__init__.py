"""What is to be done and what is done: steps, the pipeline of an experiment, the graph of a study."""
