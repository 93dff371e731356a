"""What an error is to a person: one line, and an exit code."""

from __future__ import annotations

INTERRUPTED = 130  # what a shell says of a command ended by Ctrl-C
_OURS = {"schemas", "operators", "sinks", "replay", "flows"}  # errors of these name what is wrong and what is accepted
_NO_SUCH_FILE = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)


def explain(error: Exception) -> tuple[str, int]:
    """Say in words what was wrong, and give the exit code: 2 where it was what was asked for, 1 where the run broke."""
    cause = _root(error)
    if isinstance(cause, KeyboardInterrupt):
        return "", INTERRUPTED
    if isinstance(cause, _NO_SUCH_FILE):
        return f"{cause.strerror}: {cause.filename}" if cause.filename else str(cause), 2
    if isinstance(cause, ValueError | RuntimeError) and type(cause).__module__.partition(".")[0] in _OURS:
        return str(cause), 2 if isinstance(cause, ValueError) else 1
    return f"{type(cause).__name__}: {cause} (IBMS_TRACEBACK=1 shows where)", 1


def _root(error: BaseException) -> BaseException:
    """Find what was raised first: bytewax wraps errors of steps in its own."""
    while (inner := error.__cause__) is not None:
        error = inner
    return error
