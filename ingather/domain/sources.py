"""Which documents came from where: contiguous ranges of ordinals."""

from collections.abc import Sequence

from ingather.models.batch import Counts, SourceProgress, SourceSlice
from ingather.models.source import SourceRef

MAX_SLICES = 20
"""Slices travel in the workflow's history and in its progress; what comes after these is counted in one."""
UPLOAD = "upload"
ZIP = "zip"
OTHERS = "other sources"


def selected(slices: Sequence[SourceSlice]) -> tuple[SourceProgress, ...]:
    """Where documents of connected sources stand before anything ran; empty where there are none."""
    if all(each.connection_id is None for each in slices):
        return ()  # what archives hold is known once they are expanded
    return tuple(
        SourceProgress(
            name=each.name,
            source_type=each.source_type,
            counts=Counts(total=each.document_count, pending=each.document_count),
            connection_id=each.connection_id,
        )
        for each in slices
    )


class SourceTally:
    """Collects slices while a manifest is made."""

    def __init__(self) -> None:
        self._slices: list[SourceSlice] = []
        self._next_ordinal = 0
        self._selection: int | None = None
        """Which selection the last slice belongs to."""

    def count_upload(self) -> None:
        """One more document that was handed in itself."""
        if self._slices and self._slices[-1].source_type == UPLOAD:
            self._extend(1)
        else:
            self._begin(UPLOAD, UPLOAD, 1)

    def count_archive(self, name: str, document_count: int) -> None:
        """The documents of one archive."""
        self._begin(name, ZIP, document_count)

    def count_selected(self, ref: SourceRef) -> None:
        """One more file of a connected source. Each selection is a slice, also where two name one connection."""
        is_same = bool(self._slices) and self._slices[-1].connection_id == ref.connection_id
        if is_same and self._selection == ref.selection:
            self._extend(1)
        else:
            self._begin(ref.connection_id, ref.source_type.value, 1, connection_id=ref.connection_id)
            self._selection = ref.selection

    def slices(self) -> tuple[SourceSlice, ...]:
        """All of them, in ordinal order, without gaps."""
        return tuple(self._slices)

    def _begin(self, name: str, source_type: str, document_count: int, *, connection_id: str | None = None) -> None:
        if len(self._slices) == MAX_SLICES:
            others = {"name": OTHERS, "source_type": UPLOAD, "connection_id": None}
            self._slices[-1] = self._slices[-1].model_copy(update=others)
            self._extend(document_count)
            return
        self._slices.append(
            SourceSlice(
                name=name,
                source_type=source_type,
                first_ordinal=self._next_ordinal,
                document_count=document_count,
                connection_id=connection_id,
            )
        )
        self._next_ordinal += document_count

    def _extend(self, document_count: int) -> None:
        last = self._slices[-1]
        self._slices[-1] = last.model_copy(update={"document_count": last.document_count + document_count})
        self._next_ordinal += document_count
