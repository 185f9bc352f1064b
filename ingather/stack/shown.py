"""How addresses are shown."""


def without_credentials(url: str) -> str:
    """A URL as anybody may see it."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
