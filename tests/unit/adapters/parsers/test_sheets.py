"""Scanned sheets: codes, covers, sizes and looks, from files as scanners make them."""

import io
import random

import pytest
from PIL import Image, ImageDraw

from bench.sheet_pages import CLEAN, Scan, code_image, cover, encoded, rough, scanned, sheet
from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.parsers.sheets import read_sheet, sheet_media_type
from ingather.domain.sheet_table import Pictures
from ingather.models.content import MediaType
from ingather.models.errors import DocumentCorruptError, DocumentEncryptedError, DocumentTooLargeError
from ingather.samples import SAMPLES

SMALL = (620, 877)
LIMITS = ParseLimits()


def dice():
    return random.Random(5)


def read(content, limits=LIMITS):
    reading, _ = read_sheet(content, sheet_media_type(content), limits)
    return reading


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "pdf"])
def test_a_cover_is_known_in_every_format(suffix):
    """Its code is read, and there is next to nothing else on it."""
    reading = read(encoded(cover("14900113"), suffix))

    assert (reading.codes, reading.is_cover) == (("14900113",), True)
    assert reading.page_count == 1


def test_a_sheet_with_a_code_of_its_own_is_no_cover():
    """There is writing on it."""
    reading = read(encoded(sheet(dice(), codes=("A-1",))))

    assert (reading.codes, reading.is_cover) == (("A-1",), False)


def test_several_codes_come_from_top_to_bottom():
    """Each once, wherever they are on the page."""
    page = sheet(dice())
    page.paste(code_image("BELOW", 4), (150, 1_300))
    page.paste(code_image("ABOVE", 4), (900, 150))

    assert read(encoded(page)).codes == ("ABOVE", "BELOW")


def test_a_sheet_without_a_code_has_none():
    """And is as large as it is."""
    reading = read(encoded(sheet(dice())))

    assert (reading.codes, reading.is_cover) == ((), False)
    assert (reading.width, reading.height) == (1_240, 1_754)


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("scan", [CLEAN, Scan(skew=6, noise=14, specks=0.003), Scan(skew=-4, blur=1.5, fade=0.3)])
def test_codes_are_read_whichever_way_the_page_lay(turn, scan):
    """Turned, skewed, noisy, blurred, faded."""
    page = cover("14900113").rotate(90 * turn, expand=True)
    assert read(encoded(scanned(page, scan, dice()))).codes == ("14900113",)


def test_ordinary_bad_scans_are_read():
    """One after the other, without a miss; the bench measures more of them."""
    random_scan = random.Random(11)
    for number in range(8):
        page = scanned(cover(f"{number:08d}"), rough(random_scan), random_scan)
        assert read(encoded(page)).codes == (f"{number:08d}",)


def test_every_page_of_a_file_is_looked_at():
    """A scan of several pages, as TIFF and as PDF; it is no cover, whatever is on it."""
    pages = [sheet(dice(), SMALL), cover("P2", SMALL), cover("P3", SMALL)]
    for kind in ("TIFF", "PDF"):
        reading = read(saved(pages[0], kind, save_all=True, append_images=pages[1:]))
        assert (reading.page_count, reading.codes, reading.is_cover) == (3, ("P2", "P3"), False)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16", "CMYK"])
def test_colours_and_depths_do_not_matter(mode):
    """Palette, transparency, sixteen bits, ink."""
    grey = cover("14900113", SMALL)
    image = Image.frombytes("I;16", grey.size, bytes(byte for value in grey.tobytes() for byte in (0, value)))
    image = image if mode == "I;16" else grey.convert("RGB").convert(mode) if mode == "P" else grey.convert(mode)
    kind = "TIFF" if mode in {"CMYK", "I;16"} else "PNG"
    assert read(saved(image, kind)).codes == ("14900113",)


def test_a_scan_and_a_worse_copy_of_it_look_the_same():
    """Compressed more, or half as large; the same form with more writing on it does not."""
    page = scanned(sheet(dice()), Scan(noise=4), dice())
    filled_in = page.copy()
    ImageDraw.Draw(filled_in).line([(300, 900), (600, 930)], fill=25, width=5)
    contents = [
        encoded(page),
        saved(page, "JPEG", quality=40),
        saved(page.reduce(2), "PNG"),
        encoded(filled_in),
        encoded(sheet(random.Random(6))),
    ]

    assert Pictures(read(content).picture for content in contents).earlier() == {1: 0, 2: 0}


def test_a_blank_page_has_no_picture():
    """The backs of sheets are no duplicates of each other."""
    assert read(encoded(scanned(Image.new("L", SMALL, 250), Scan(noise=6), dice()))).picture == ""


def test_what_a_code_says_is_made_fit_for_names():
    """Line breaks and control characters are blanks, and it is cut."""
    reading = read(saved(code_image("one\ntwo\x07" + "x" * 600, 4), "PNG"))
    assert reading.codes == ("one two " + "x" * 492,)


@pytest.mark.parametrize(
    "content", [b"", b"no image at all", b"\xff\xd8\xff\xe0 cut", b"\x89PNG\r\n\x1a\n", b"%PDF-1.7 x"]
)
def test_what_cannot_be_read_is_corrupt(content):
    """By whatever name it goes."""
    with pytest.raises(DocumentCorruptError):
        read(content)


def test_half_an_image_is_corrupt():
    """What is missing may have had a code on it."""
    whole = encoded(cover("1", SMALL), "png")
    with pytest.raises(DocumentCorruptError):
        read(whole[: len(whole) // 2])


def test_an_encrypted_pdf_is_named():
    """It needs its password taken off."""
    with pytest.raises(DocumentEncryptedError):
        read((SAMPLES / "grant-agreement-sealed.pdf").read_bytes())


def test_more_pixels_than_allowed_are_refused_before_they_are_unpacked():
    """A small file may claim to be a house."""
    with pytest.raises(DocumentTooLargeError) as caught:
        read(saved(Image.new("1", (20_000, 20_000)), "PNG"))
    assert caught.value.facts["limit"] == "parser_pixels"


def test_a_page_of_a_pdf_is_drawn_as_large_as_is_allowed():
    """Its size is a number in a file; what is on it is read all the same."""
    content = saved(cover("14900113"), "PDF", resolution=15)
    reading = read(content, ParseLimits(max_pixels=1_000_000))

    assert reading.width * reading.height <= 1_000_000
    assert reading.codes == ("14900113",)


def test_more_pages_than_allowed_are_refused():
    """By the limit that holds for every document."""
    with pytest.raises(DocumentTooLargeError):
        read(
            saved(Image.new("L", (30, 30)), "PDF", save_all=True, append_images=[Image.new("L", (30, 30))] * 3),
            ParseLimits(max_pages=3),
        )


def test_the_type_is_told_by_the_first_bytes():
    """Not by a name."""
    assert sheet_media_type(encoded(cover("1", SMALL), "pdf")) is MediaType.PDF
    assert sheet_media_type(encoded(cover("1", SMALL), "png")) is MediaType.IMAGE
