"""The stages of a study, each a recipe from top to bottom: embed, reference, inject, tune, evaluate."""
