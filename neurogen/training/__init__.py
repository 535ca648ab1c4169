"""The one training loop, the engine that updates the values, and the runtime that says where both run."""
