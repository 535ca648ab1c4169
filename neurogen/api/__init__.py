"""The Python face of NeuroGen: loaded generators, zoos and networks. `import neurogen` offers its public names."""
