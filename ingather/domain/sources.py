"""Which documents came from where: contiguous ranges of ordinals."""

from ingather.models.batch import SourceSlice

MAX_SLICES = 20
"""Slices travel in the workflow's history and in its progress; what comes after these is counted in one."""
UPLOAD = "upload"
ZIP = "zip"
OTHERS = "other sources"


class SourceTally:
    """Collects slices while a manifest is made."""

    def __init__(self) -> None:
        self._slices: list[SourceSlice] = []
        self._next_ordinal = 0

    def count_upload(self) -> None:
        """One more document that was handed in itself."""
        if self._slices and self._slices[-1].source_type == UPLOAD:
            self._extend(1)
        else:
            self._begin(UPLOAD, UPLOAD, 1)

    def count_archive(self, name: str, document_count: int) -> None:
        """The documents of one archive."""
        self._begin(name, ZIP, document_count)

    def slices(self) -> tuple[SourceSlice, ...]:
        """All of them, in ordinal order, without gaps."""
        return tuple(self._slices)

    def _begin(self, name: str, source_type: str, document_count: int) -> None:
        if len(self._slices) == MAX_SLICES:
            self._slices[-1] = self._slices[-1].model_copy(update={"name": OTHERS, "source_type": UPLOAD})
            self._extend(document_count)
            return
        self._slices.append(
            SourceSlice(
                name=name,
                source_type=source_type,
                first_ordinal=self._next_ordinal,
                document_count=document_count,
            )
        )
        self._next_ordinal += document_count

    def _extend(self, document_count: int) -> None:
        last = self._slices[-1]
        self._slices[-1] = last.model_copy(update={"document_count": last.document_count + document_count})
        self._next_ordinal += document_count
