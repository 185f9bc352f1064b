"""Objects in parts whose last answer is lost."""

import pytest

from ingather.adapters.s3.multipart import PartUploader
from ingather.models.errors import BlobNotFoundError, StorageUnavailableError


class Store:
    """Takes parts; of an upload it was asked to complete it knows nothing when asked again, as stores do."""

    def __init__(self, error: Exception, stored_bytes: int | None) -> None:
        self._error = error
        self._stored_bytes = stored_bytes

    async def call(self, operation):
        return operation(self)

    def create_multipart_upload(self, **_where):
        return {"UploadId": "u"}

    def upload_part(self, **_part):
        return {"ETag": "e"}

    def complete_multipart_upload(self, **_done):
        raise self._error

    def head_object(self, **_where):
        if self._stored_bytes is None:
            raise BlobNotFoundError("There is no object.")
        return {"ContentLength": self._stored_bytes}


GONE = BlobNotFoundError("NoSuchUpload")
SILENT = StorageUnavailableError("No answer.")


async def completed(store: Store) -> None:
    upload = PartUploader(store.call, "bucket", "key")
    await upload.add(1, b"four")
    await upload.add(2, b"two")
    await upload.complete()


async def test_an_upload_whose_last_answer_was_lost_is_complete():
    """The store knows no such upload any more, and has an object as large as its parts."""
    await completed(Store(GONE, 7))


@pytest.mark.parametrize(("error", "stored_bytes"), [(GONE, None), (GONE, 3), (SILENT, None), (SILENT, 7)])
async def test_an_upload_that_is_not_there_is_tried_again(error, stored_bytes):
    """Never called a missing object: that would be nobody's to cure. What a silent store has may be an older one."""
    with pytest.raises(StorageUnavailableError):
        await completed(Store(error, stored_bytes))
