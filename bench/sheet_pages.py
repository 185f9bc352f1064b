"""Scanned sheets as they come out of a scanner: forms with writing, QR codes, covers, noise, blur, turned and skewed.

Everything follows from a seed, so a run can be repeated. Pages are A4 at 150 dpi unless told otherwise.
"""

import io
import random
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import zxingcpp
from PIL import Image, ImageDraw, ImageFilter, ImageFont

PAGE = (1240, 1754)
_PAPER, _INK = 250, 25
_MARGIN = 90
_WORDS = (  # noqa: SIM905 - a list of words reads best as a sentence
    "answer question student region centre form subject number date paper signature total section page language "
    "mark teacher school choice option result candidate please only fill name"
).split()


@dataclass(frozen=True)
class Scan:
    """What happened to a page on its way through the scanner."""

    turn: int = 0
    """Quarter turns."""
    skew: float = 0.0
    """Degrees."""
    noise: float = 0.0
    """Standard deviation of the sensor's noise, in grey levels."""
    specks: float = 0.0
    """Share of pixels that are dust or holes."""
    blur: float = 0.0
    """Radius in pixels."""
    fade: float = 0.0
    """How much contrast was lost, 0 to 1."""


CLEAN = Scan()


def rough(dice: random.Random, *, turned: bool = True) -> Scan:
    """An ordinary bad scan."""
    return Scan(
        turn=dice.randrange(4) if turned else 0,
        skew=dice.uniform(-7, 7),
        noise=dice.uniform(0, 18),
        specks=dice.uniform(0, 0.004),
        blur=dice.uniform(0, 1.6),
        fade=dice.uniform(0, 0.35),
    )


def code_image(text: str, module: int = 8) -> Image.Image:
    """A QR code, so many pixels a module, with its quiet zone."""
    barcode = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode)
    return Image.fromarray(np.array(barcode.to_image(scale=module)))


def cover(code: str, size: tuple[int, int] = PAGE) -> Image.Image:
    """A page that says what comes next: a code and a line of words."""
    page = Image.new("L", size, _PAPER)
    qr = code_image(code, max(4, size[0] // 100))
    page.paste(qr, ((size[0] - qr.width) // 2, size[1] // 3))
    draw = ImageDraw.Draw(page)
    draw.text((size[0] // 2, size[1] // 5), f"Batch {code}", fill=_INK, font=_font(size[0] // 25), anchor="mm")
    return page


def sheet(dice: random.Random, size: tuple[int, int] = PAGE, codes: tuple[str, ...] = ()) -> Image.Image:
    """A form that somebody filled in, with codes of its own where some are given."""
    page = Image.new("L", size, _PAPER)
    draw = ImageDraw.Draw(page)
    font = _font(max(10, size[0] // 56))
    top = _MARGIN
    for place, code in enumerate(codes):
        qr = code_image(code, max(2, size[0] // 250))
        # So far from the edges that a skewed page still has it.
        page.paste(qr, (int(size[0] * 0.84) - (place + 1) * (qr.width + 20), _MARGIN))
        top = max(top, _MARGIN + qr.height + 10)
    for y in range(top, size[1] - _MARGIN, max(16, size[0] // 38)):
        words = " ".join(dice.choices(_WORDS, k=dice.randint(4, 11)))
        draw.text((_MARGIN, y), words, fill=dice.randint(_INK, 90), font=font)
        if dice.random() < 0.4:
            x = dice.randint(size[0] // 2, size[0] - _MARGIN - 60)
            draw.rectangle((x, y, x + 26, y + 26), outline=_INK, width=2)
            if dice.random() < 0.5:
                draw.line((x + 4, y + 4, x + 22, y + 22), fill=_INK, width=3)
    for _ in range(3):
        _scribble(draw, dice, size)
    return page


def scanned(page: Image.Image, scan: Scan, dice: random.Random) -> Image.Image:
    """The page as the scanner gives it."""
    if scan.turn:
        page = page.rotate(90 * scan.turn, expand=True, fillcolor=_PAPER)
    if scan.skew:
        page = page.rotate(scan.skew, resample=Image.Resampling.BILINEAR, fillcolor=_PAPER)
    if scan.blur:
        page = page.filter(ImageFilter.GaussianBlur(scan.blur))
    pixels = np.asarray(page, dtype=np.float32)
    random_numbers = np.random.default_rng(dice.getrandbits(32))
    if scan.fade:
        pixels = 255 - (255 - pixels) * (1 - scan.fade)
    if scan.noise:
        pixels = pixels + random_numbers.normal(0, scan.noise, pixels.shape).astype(np.float32)
    if scan.specks:
        hit = random_numbers.random(pixels.shape)
        pixels = np.where(hit < scan.specks / 2, 0, np.where(hit > 1 - scan.specks / 2, 255, pixels))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encoded(page: Image.Image, suffix: str = "jpg") -> bytes:
    """The page as a file."""
    buffer = io.BytesIO()
    match suffix:
        case "jpg":
            page.save(buffer, "JPEG", quality=80)
        case "png":
            page.save(buffer, "PNG", compress_level=3)
        case "tif":
            page.convert("1").save(buffer, "TIFF", compression="group4")
        case "pdf":
            page.save(buffer, "PDF", resolution=150, quality=80)
        case other:
            raise ValueError(f"no sheets are made as {other!r}")
    return buffer.getvalue()


@dataclass(frozen=True)
class MadeSheet:
    """One file of a made upload, and what is on it."""

    name: str
    content: bytes
    codes: tuple[str, ...]
    is_cover: bool


def made_sheets(
    groups: int, sheets_a_group: int, *, seed: int = 1, suffix: str = "jpg", is_rough: bool = True
) -> Iterator[MadeSheet]:
    """Covers, each followed by its sheets, in name order."""
    dice = random.Random(seed)
    for group in range(groups):
        code = f"{14_900_000 + group:08d}"
        for place in range(sheets_a_group + 1):
            page = sheet(dice) if place else cover(code)
            scan = rough(dice) if is_rough else CLEAN
            if not place:
                scan = replace(scan, blur=min(scan.blur, 1.0))
            name = f"scan_{group:04d}_{place:04d}.{suffix}"
            yield MadeSheet(name, encoded(scanned(page, scan, dice), suffix), () if place else (code,), not place)


def write_zip(path: Path, groups: int, sheets_a_group: int, *, seed: int = 1, suffix: str = "jpg") -> int:
    """An upload of ``zip_with_qr`` as a file; answers how many sheets are in it, covers left out."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for made in made_sheets(groups, sheets_a_group, seed=seed, suffix=suffix):
            archive.writestr(made.name, made.content)
    return groups * sheets_a_group


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _scribble(draw: ImageDraw.ImageDraw, dice: random.Random, size: tuple[int, int]) -> None:
    """Handwriting, from afar."""
    x, y = dice.randint(_MARGIN, size[0] // 2), dice.randint(_MARGIN, size[1] - 2 * _MARGIN)
    points = [(x + step * 9, y + dice.randint(-22, 22)) for step in range(dice.randint(12, 40))]
    draw.line(points, fill=_INK, width=4, joint="curve")
