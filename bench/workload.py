"""What is ingested: small texts made here, and real documents where a corpus is at hand."""

import os
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_WORDS = [
    "observatory",
    "telescope",
    "mirror",
    "shutter",
    "night",
    "sky",
    "cloud",
    "calibration",
    "exposure",
    "filter",
    "detector",
    "guide",
    "star",
    "focus",
    "dome",
    "wind",
    "humidity",
    "log",
    "schedule",
    "operator",
    "visitor",
    "safety",
    "cable",
    "pump",
    "cooling",
    "nitrogen",
    "archive",
    "reduction",
    "pipeline",
    "spectrum",
    "galaxy",
    "cluster",
    "survey",
    "catalogue",
    "magnitude",
    "epoch",
    "transit",
    "occultation",
    "comet",
    "asteroid",
    "orbit",
    "ephemeris",
    "the",
    "a",
    "of",
    "and",
    "to",
    "in",
    "is",
    "on",
    "with",
    "for",
    "by",
    "from",
    "at",
    "as",
    "it",
    "that",
    "this",
    "was",
    "are",
    "be",
]


@dataclass(frozen=True)
class Workload:
    """Named documents on disk."""

    name: str
    files: tuple[Path, ...]

    @property
    def total_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)


def small_texts(directory: Path, count: int, seed: int, size_bytes: int = 4_000) -> Workload:
    """Plain texts of about 4 KB, no two alike: another ``seed`` gives other texts."""
    generator = random.Random(seed)
    directory.mkdir(parents=True, exist_ok=True)
    return Workload(
        "small texts", tuple(_write_text(directory / f"note-{n:05d}.txt", generator, size_bytes) for n in range(count))
    )


def _write_text(path: Path, generator: random.Random, size_bytes: int) -> Path:
    sentences: list[str] = []
    length = 0
    while length < size_bytes:
        words = generator.choices(_WORDS, k=generator.randint(6, 14))
        sentences.append(" ".join(words).capitalize() + f" {generator.randint(0, 99_999)}.")
        length += len(sentences[-1])
    path.write_text(" ".join(sentences))
    return path


def corpus(folder: Path | None) -> Workload | None:
    """Real documents: every file of the corpus but archives, whose content the pool would not unpack."""
    folder = folder or Path(os.environ.get("INGATHER_CORPUS") or "corpus")
    files = _documents(folder / "files")
    return Workload("corpus", tuple(files)) if files else None


def copies_of(workload: Workload, folder: Path, count: int) -> Workload:
    """Every document so many times, no two alike: of the same content, one is worked on at a time. Line ends at its end differ."""
    folder.mkdir(parents=True, exist_ok=True)
    return Workload(
        f"{count} copies of {workload.name}",
        tuple(_copy(path, folder, number) for number in range(count) for path in workload.files),
    )


def _copy(path: Path, folder: Path, number: int) -> Path:
    copy = folder / f"{path.stem}-{number}{path.suffix}"
    copy.write_bytes(path.read_bytes() + b"\n" * number)
    return copy


def _documents(folder: Path) -> list[Path]:
    found: Iterable[Path] = folder.glob("*") if folder.is_dir() else ()
    return sorted(path for path in found if path.is_file() and path.suffix != ".zip")
