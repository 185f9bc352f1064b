"""One file a format. Each function takes bytes and limits and gives a ``ParsedDocument``, or raises a ``DocumentError``."""
