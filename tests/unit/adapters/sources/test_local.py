"""Files on the workers' disk: what lies below an allowed folder, and nothing else, whatever anybody writes."""

import asyncio
import os
import shutil
import threading
from pathlib import Path

import pytest

from ingather.adapters.sources.local_directory import described, moment
from ingather.adapters.sources.paths import opened_folder
from ingather.models.errors import (
    ArchiveError,
    ArchiveTooLargeError,
    SourceAccessDeniedError,
    SourceFileNotFoundError,
    SourceUnavailableError,
)
from ingather.models.identity import DEFAULT_TENANT_ID
from tests.support.zips import RawEntry, raw_zip, zip_of
from tests.unit.adapters.sources.conftest import content_of, listed


@pytest.fixture
def root(tmp_path) -> Path:
    """An allowed folder with files in it, and secrets beside it."""
    (tmp_path / "secret.txt").write_text("secret")
    root = tmp_path / "allowed"
    (root / "in/sub").mkdir(parents=True)
    for name in ("b.txt", "a.txt", "sub/c.txt"):
        (root / "in" / name).write_text(name)
    return root


@pytest.fixture
def shelf(opened, root):
    return opened("local_directory", {"path": f"{root}/in"}, roots=[root])


async def test_a_folder_is_listed_and_read(shelf):
    """By name, page by page; ids are paths below the connection's folder."""
    assert await listed(shelf) == ["a.txt", "b.txt", "sub/"]
    assert await listed(shelf, limit=1) == ["a.txt", "b.txt", "sub/"]
    assert await listed(shelf, "sub") == ["sub/c.txt"]
    assert await content_of(shelf, "sub/c.txt") == b"sub/c.txt"
    file = await shelf.describe("a.txt")
    assert (file.name, file.size_bytes, file.is_folder) == ("a.txt", 5, False)
    await shelf.check()


@pytest.mark.parametrize(
    "file_id",
    ["../../secret.txt", "sub/../../../secret.txt", "/etc/passwd", "./a.txt", "sub//c.txt", "", "a.txt/", "a\0.txt"],
)
async def test_no_id_climbs_out(shelf, file_id):
    """An absolute path, dots, empty parts: refused before anything is opened."""
    with pytest.raises(SourceAccessDeniedError):
        await content_of(shelf, file_id)
    with pytest.raises(SourceAccessDeniedError):
        await shelf.list_files(file_id or "..")


async def test_a_path_that_climbs_is_named_whole(shelf):
    """Its last part alone would look harmless; what is long or odd in it is not repeated."""
    with pytest.raises(SourceAccessDeniedError, match=r"'sub/\.\./\.\./secret\.txt' is no path below"):
        await content_of(shelf, "sub/../../secret.txt")
    with pytest.raises(SourceAccessDeniedError) as refused:
        await content_of(shelf, "../" * 1_000 + "a\nb.txt")
    assert len(refused.value.message) < 300
    assert "\n" not in refused.value.message


async def test_links_are_not_followed(root, shelf, tmp_path):
    """Neither to a file nor through a folder, also where they lead to something allowed; and they are not listed."""
    (root / "in/file").symlink_to(tmp_path / "secret.txt")
    (root / "in/folder").symlink_to(tmp_path)
    (root / "in/inside").symlink_to(root / "in/a.txt")
    for file_id in ("file", "folder/secret.txt", "inside"):
        with pytest.raises(SourceAccessDeniedError, match="symbolic link"):
            await content_of(shelf, file_id)
    with pytest.raises(SourceAccessDeniedError):
        await shelf.list_files("folder")
    assert await listed(shelf) == ["a.txt", "b.txt", "sub/"]


async def test_a_folder_that_becomes_a_link_leads_nowhere(root, shelf, tmp_path):
    """The connection's own folder included: what was checked once is not what is opened."""
    shutil.rmtree(root / "in")
    (root / "in").symlink_to(tmp_path)
    with pytest.raises(SourceAccessDeniedError):
        await content_of(shelf, "secret.txt")
    with pytest.raises(SourceAccessDeniedError):
        await shelf.check()


async def test_what_is_not_an_ordinary_file_is_not_there(root, shelf):
    """A pipe that nobody writes to does not hold a worker; a folder is no file."""
    os.mkfifo(root / "in/pipe")
    for file_id in ("pipe", "sub", "lost.txt", "a.txt/b", "n" * 300):
        with pytest.raises(SourceFileNotFoundError):
            await content_of(shelf, file_id)
    assert "pipe" not in await listed(shelf)


def test_a_file_that_goes_while_its_folder_is_listed_is_not_listed(root):
    """The others are."""
    with opened_folder(root, ("in",)) as folder:
        (root / "in/a.txt").unlink()
        assert described(folder, "a.txt", "a.txt") is None
        assert described(folder, "b.txt", "b.txt").size_bytes == 5


@pytest.mark.parametrize("seconds", [2.0**39, -(2.0**39), 2.0**63])
def test_a_time_beyond_the_calendar_is_none(seconds):
    """Disks know such times; the file is described without it."""
    assert moment(seconds) is None
    assert moment(0.0).year == 1970


async def test_a_file_that_grows_while_it_is_read_is_read_again(root, shelf):
    """What came is not the file that was announced."""
    async with shelf.download("a.txt") as download:
        with (root / "in/a.txt").open("a") as file:
            file.write("more")
        with pytest.raises(SourceUnavailableError, match="changed"):
            _ = [chunk async for chunk in download.chunks]


async def test_without_roots_nothing_is_opened(opened, root):
    """The refusal names the setting."""
    for kind in ("local_directory", "local_zip"):
        with pytest.raises(SourceAccessDeniedError) as raised:
            opened(kind, {"path": f"{root}/in"})
        assert "INGATHER_SOURCES__ROOTS" in raised.value.action


@pytest.mark.parametrize("path", ["/etc", "{root}x/in", "{root}/../secret.txt", "{root}/in/../..", "{root}/./in"])
async def test_a_path_outside_the_roots_is_refused(opened, root, path):
    """Also one that only begins like a root, or leaves it again."""
    with pytest.raises(SourceAccessDeniedError):
        opened("local_directory", {"path": path.format(root=root)}, roots=[root])


async def test_a_root_may_be_each_tenants_own(opened, root):
    """Where the path says so: no tenant reads what is another's."""
    own = root / DEFAULT_TENANT_ID
    own.mkdir()
    (own / "mine.txt").write_text("mine")
    roots = [root / "{tenant_id}"]
    assert await listed(opened("local_directory", {"path": str(own)}, roots=roots)) == ["mine.txt"]
    with pytest.raises(SourceAccessDeniedError):
        opened("local_directory", {"path": f"{root}/in"}, roots=roots)


# --- ZIP ------------------------------------------------------------------------------------


def box(opened, root: Path, content: bytes, **limits):
    (root / "box.zip").write_bytes(content)
    return opened("local_zip", {"path": f"{root}/box.zip"}, roots=[root], **limits)


async def test_an_archives_entries_are_its_files(opened, root):
    """Folders are what their paths say; what operating systems leave in archives is not listed."""
    source = box(opened, root, zip_of({"a.txt": b"A", "docs/b.txt": b"B", "docs/deep/c.txt": b"C", "__MACOSX/a": b""}))
    assert await listed(source) == ["a.txt", "docs/"]
    assert await listed(source, "docs", limit=1) == ["docs/b.txt", "docs/deep/"]
    assert await content_of(source, "docs/deep/c.txt") == b"C"
    with pytest.raises(SourceFileNotFoundError):
        await content_of(source, "docs")
    with pytest.raises(SourceFileNotFoundError):
        await source.list_files("lost")


async def test_a_bad_entry_fails_alone(opened, root):
    """With the same codes as in an archive that was handed in."""
    source = box(opened, root, raw_zip([RawEntry("good.txt", b"G"), RawEntry("../out.txt", b"O")]))
    assert await listed(source) == ["good.txt"]
    assert await content_of(source, "good.txt") == b"G"
    with pytest.raises(ArchiveError) as raised:
        await content_of(source, "../out.txt")
    assert raised.value.code == "archive_unsafe_path"


async def test_a_bomb_is_not_unpacked(opened, root):
    """By its ratio as it comes out, and by what its directory claims together."""
    bomb = zip_of({"a.txt": bytes(3_000_000), "b.txt": bytes(3_000_000)})
    source = box(opened, root, bomb, ratio=100)
    with pytest.raises(ArchiveTooLargeError, match="zip_ratio"):
        await content_of(source, "a.txt")
    with pytest.raises(ArchiveTooLargeError, match="zip_unpacked_bytes"):
        await box(opened, root, bomb, unpacked_bytes=5_000_000).check()


async def test_an_archive_that_is_replaced_is_read_anew(opened, root):
    """Its directory is kept no longer than the archive is the same."""
    source = box(opened, root, zip_of({"a.txt": b"A"}))
    assert await listed(source) == ["a.txt"]
    (root / "box.zip").unlink()
    with pytest.raises(SourceFileNotFoundError):
        await source.check()
    (root / "box.zip").write_bytes(zip_of({"b.txt": b"BB"}))
    assert await listed(source) == ["b.txt"]
    assert await content_of(source, "b.txt") == b"BB"


async def test_what_is_no_archive_says_so(opened, root):
    """When it is used."""
    with pytest.raises(ArchiveError):
        await box(opened, root, b"hello").check()


async def test_a_disk_that_hangs_holds_up_no_other_source(opened, shelf, root):
    """However many wait to read from it: another source has threads of its own, and everything else has its."""
    beside = opened("local_directory", {"path": f"{root}/in/sub"}, roots=[root])
    answers = threading.Event()
    waiting = [asyncio.ensure_future(shelf._threads.run(answers.wait)) for _ in range(40)]
    assert await content_of(beside, "c.txt") == b"sub/c.txt"
    assert await asyncio.to_thread(lambda: "elsewhere") == "elsewhere"
    answers.set()
    assert all(await asyncio.gather(*waiting))
