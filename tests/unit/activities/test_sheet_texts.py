"""What sheets say, where the extra ``ingather[ocr]`` is installed: read by its own models, in its own row."""

import pytest
from PIL import Image, ImageDraw, ImageFont

from bench.sheet_pages import encoded
from ingather.adapters.parsers.ocr import is_available
from ingather.domain.keys import sheet_csv_key
from tests.support.zips import zip_of
from tests.unit.activities.test_sheets import TENANT, WITHOUT, SheetRoom

pytestmark = pytest.mark.skipif(not is_available(), reason="the extra ocr is not installed")


def written(words: str) -> bytes:
    page = Image.new("L", (900, 300), 250)
    ImageDraw.Draw(page).text((60, 110), words, fill=20, font=ImageFont.load_default(size=48))
    return encoded(page, "png")


@pytest.fixture
def room(preparer):
    return SheetRoom(preparer=preparer, ocr=True)


async def test_what_is_written_on_a_sheet_is_in_its_row_and_in_the_table(room):
    """A sheet that says nothing is as good as the others."""
    archive = zip_of(
        {"1.png": written("Signature of teacher"), "2.png": encoded(Image.new("L", (300, 300), 250), "png")}
    )
    await room.hand_in(("scan.zip", archive), upload_type=WITHOUT)
    await room.run()

    said, silent = await room.results()
    assert (said.status, silent.status) == ("done", "done")
    assert "signature" in said.text.lower()
    assert not silent.text
    assert said.text.encode() in await room.blobs.get(sheet_csv_key(TENANT, room.batch_id, 5))
