"""What a shell learns from us. Stable: scripts branch on these."""

from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0
    ERROR = 1
    """Something went wrong that has no code of its own; a batch that was cancelled or could not run at all, too."""
    USAGE = 2
    """The command line itself is wrong."""
    AUTH = 3
    """No credential, a wrong one, or one that may not do this."""
    NOT_FOUND = 4
    LIMIT = 5
    """Over a limit, or out of time."""
    FAILED_DOCUMENTS = 6
    """The batch ended, and some of its documents failed."""
    INTERRUPTED = 130
    """Ctrl-C. The batch goes on."""


_BY_HTTP_STATUS = {
    401: ExitCode.AUTH,
    403: ExitCode.AUTH,
    404: ExitCode.NOT_FOUND,
    408: ExitCode.LIMIT,
    413: ExitCode.LIMIT,
    429: ExitCode.LIMIT,
    504: ExitCode.LIMIT,
}


def exit_code_for_http(status: int) -> ExitCode:
    """The exit code of a command that the server answered with an error status."""
    return _BY_HTTP_STATUS.get(status, ExitCode.ERROR)


_ENDED = {
    "completed": ExitCode.OK,
    "completed_with_failures": ExitCode.FAILED_DOCUMENTS,
    "failed": ExitCode.ERROR,
    "cancelled": ExitCode.ERROR,
}


def exit_code_for_batch(status: str, *, failed: int) -> ExitCode:
    """The exit code of a command that waited for a batch to end.

    ``failed`` is its number of failed documents: a batch in which every document failed ended with failed
    documents like any other; one that failed without any (its manifest could not be made) is an error.
    """
    if failed and status != "cancelled":
        return ExitCode.FAILED_DOCUMENTS
    return _ENDED.get(status, ExitCode.OK)
