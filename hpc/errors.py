"""Errors that are meant for the user, and the line for any other. Each is shown without a traceback."""


class ClusterError(ValueError):
    """Says what was given, what is allowed and what to do."""


class Unwritable(ClusterError):
    """A file could not be written, for want of room or permission."""


class Unanswered(ClusterError):
    """SLURM's controller could not be reached, or its answer leaves open whether it carried out the request."""


def one_line(error: object) -> str:
    """The message of an error without line breaks."""
    return " ".join(str(error).split())


def unexpected(error: BaseException) -> str:
    """The line for an error that is no message to the user."""
    return f"{type(error).__name__}: {one_line(error)[:200]} (traceback in its log)"
