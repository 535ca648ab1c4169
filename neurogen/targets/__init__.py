"""Target networks f: what they are, how their parameters are laid out, and the zoo of trained ones."""
