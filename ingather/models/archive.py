"""An archive as its directory describes it, and how much of one we are willing to unpack."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One entry, as the archive's directory claims it to be: nothing here is to be trusted."""

    index: int
    """0-based position in the directory."""
    name: str
    """The path in the archive, decoded and otherwise untouched."""
    size_bytes: int
    """Unpacked, as claimed."""
    packed_bytes: int
    """As stored, as claimed."""
    offset: int
    """Where the entry's own header starts in the archive."""
    method: int = 8
    """Compression method by its ZIP number: 0 stored, 8 deflated."""
    is_directory: bool = False
    is_encrypted: bool = False
    is_symlink: bool = False
    is_special: bool = False
    """A device, a pipe or a socket."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What one submitted archive may cost, archives inside it included."""

    entries: int = 20_000
    unpacked_bytes: int = 20 * 1024**3
    ratio: int = 100
    """Unpacked bytes for each packed one."""
    depth: int = 2
    """Archives within archives; 1 is none."""
    entry_bytes: int = 200 * 1000 * 1000
    """One unpacked entry: the limit of any other document (``max_file_bytes``)."""
