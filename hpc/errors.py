"""The errors that are meant for the user."""


class ClusterError(ValueError):
    """Shown in one line, without a traceback: what was given, what is allowed, what to do."""


class Unanswered(ClusterError):
    """The controller could not be reached, or did not say whether it did what it was asked for."""
