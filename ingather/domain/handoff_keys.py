"""Redis keys of the hand-off: the list, whose name is fixed, and the markers beside it."""


def handoff_list_key(tenant_id: str) -> str:
    """Redis list from which the tenant's own workers take documents. Not prefixed: they know it by this name."""
    return f"tenant:{tenant_id}:queue:parse"


def handed_on_key(tenant_id: str, batch_id: str, again: str = "") -> str:
    """Redis bitmap of a batch's documents that were pushed, by ordinal; ``again`` names a later push of them."""
    suffix = f":{again}" if again else ""
    return f"ingather:{tenant_id}:handed-on:{batch_id}{suffix}"
