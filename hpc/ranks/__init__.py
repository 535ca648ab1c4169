"""Several processes that work on one step: process groups, DeepSpeed ZeRO, the watchdog."""
