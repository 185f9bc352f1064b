"""Names in Redis that listeners of contract C know, and those that only the service itself needs."""


def current_key(batch_id: str) -> str:
    """The latest event, as JSON."""
    return f"batch:{batch_id}:progress:current"


def log_key(batch_id: str) -> str:
    """A list of all events that are retained, oldest first."""
    return f"batch:{batch_id}:progress:log"


def started_at_key(batch_id: str) -> str:
    """When the batch began, RFC 3339."""
    return f"batch:{batch_id}:started_at"


def marks_key(batch_id: str) -> str:
    """A set of the marks of what was told."""
    return f"batch:{batch_id}:progress:marks"


def state_key(batch_id: str) -> str:
    """A hash: the last event's number, rank, stage and time."""
    return f"batch:{batch_id}:progress:state"


def channel(batch_id: str) -> str:
    """Every event is published here."""
    return f"batch:{batch_id}:progress"


CHANNELS = "batch:*:progress"
"""All of them, as a pattern."""


def batch_of_channel(name: str) -> str:
    """The batch that a channel is about."""
    return name.removeprefix("batch:").removesuffix(":progress")
