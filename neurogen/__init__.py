"""NeuroGen: language models that generate the parameters of neural networks."""
