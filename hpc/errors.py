"""Errors that are meant for the user. Each is shown in one line, without a traceback."""


class ClusterError(ValueError):
    """Says what was given, what is allowed and what to do."""


class Unwritable(ClusterError):
    """A file could not be written, for want of room or permission."""


class Unanswered(ClusterError):
    """SLURM's controller could not be reached, or its answer leaves open whether it carried out the request."""
