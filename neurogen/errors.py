"""The error that is meant for the user: one line that says what was given, what is allowed, what to do."""


class UserError(ValueError):
    """Shown without a traceback; every other exception is a defect of ours and shows one."""


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def one_of(what: str, given: str, allowed: tuple[str, ...]) -> None:
    """Raise UserError unless `given` is one of `allowed`."""
    if given not in allowed:
        raise UserError(f"{what}={given} is unknown; allowed: {', '.join(allowed)}")
