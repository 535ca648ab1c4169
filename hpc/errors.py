"""The error that is meant for the user."""


class ClusterError(ValueError):
    """Shown in one line, without a traceback: what was given, what is allowed, what to do."""
