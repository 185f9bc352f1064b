"""What is submitted, under which name, with which metadata."""

import os
import zipfile
from pathlib import Path

import pytest

from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode
from ingather.cli.selection import Selection, check_limits, match_metadata, read_metadata, select
from ingather.client.bodies import UploadFile
from ingather.client.models import Limits


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(*paths: Path) -> list[str]:
    return [file.name for file in select(paths)]


def test_a_folder_is_taken_whole_and_in_order(tmp_path: Path) -> None:
    """Every visible file at any depth, named by its path inside the folder, sorted folder by folder."""
    for name in ("b.txt", "a.txt", "sub/c.txt", "sub/deeper/d.txt"):
        write(tmp_path / "papers" / name)
    assert names(tmp_path / "papers") == ["a.txt", "b.txt", "sub/c.txt", "sub/deeper/d.txt"]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    """What starts with a dot is not submitted, and is not worth a word."""
    for name in (".git/config", ".DS_Store", "a.txt"):
        write(tmp_path / name)
    selection = select([tmp_path])
    assert [file.name for file in selection] == ["a.txt"]
    assert selection.skipped.count == 0


def test_a_file_named_outright_is_taken_even_if_hidden(tmp_path: Path) -> None:
    """Whoever names a hidden file means it."""
    assert names(write(tmp_path / ".notes.txt")) == [".notes.txt"]


def test_links_out_of_the_folder_are_left_out_and_named(tmp_path: Path) -> None:
    """A folder cannot smuggle in what lies outside it: links out, to folders or to nowhere are skipped with a word."""
    secret = write(tmp_path / "secret.txt")
    folder = tmp_path / "papers"
    inside = write(folder / "a.txt")
    (folder / "inside.txt").symlink_to(inside)
    (folder / "out.txt").symlink_to(secret)
    (folder / "nowhere.txt").symlink_to(folder / "missing")
    (folder / "linked").symlink_to(tmp_path)
    selection = select([folder])
    assert [file.name for file in selection] == ["a.txt", "inside.txt"]
    assert selection.skipped.count == len(selection.skipped.reasons) == 3


def test_a_name_that_no_header_can_carry_is_made_one(tmp_path: Path) -> None:
    """Line ends and bytes that are no UTF-8 become harmless, so that metadata still finds its file."""
    write(tmp_path / "a\nb.txt")
    (tmp_path / os.fsdecode(b"c\xff.txt")).write_text("x")
    assert names(tmp_path) == ["a_b.txt", "c?.txt"]


def test_a_pipe_in_a_folder_does_not_hang_the_command(tmp_path: Path) -> None:
    """Only regular files are read."""
    os.mkfifo(tmp_path / "pipe")
    write(tmp_path / "a.txt")
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["missing.txt", "empty"])
def test_nothing_to_submit_is_a_usage_error(tmp_path: Path, name: str) -> None:
    """A missing path and a folder without files end with exit code 2."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(CliError) as caught:
        select([tmp_path / name])
    assert caught.value.exit_code == ExitCode.USAGE


# --- Limits ---------------------------------------------------------------------------------


def some_files(tmp_path: Path, count: int) -> Selection:
    for number in range(count):
        write(tmp_path / "papers" / f"{number}.txt", "0123456789")
    return select([tmp_path / "papers"])


def test_a_batch_may_be_full(tmp_path: Path) -> None:
    """Exactly the limit is accepted; a server that names none is asked to decide."""
    check_limits(some_files(tmp_path, 20), Limits(max_documents_per_batch=20))
    check_limits(some_files(tmp_path, 20), Limits())


def test_one_more_is_refused_with_advice(tmp_path: Path) -> None:
    """The refusal names the limit, the count and a way out."""
    with pytest.raises(CliError) as caught:
        check_limits(some_files(tmp_path, 21), Limits(max_documents_per_batch=20))
    error = caught.value
    assert error.exit_code == ExitCode.LIMIT
    assert "21 documents" in error.detail
    assert "at most 20" in error.detail
    assert "2 parts" in error.action


def test_entries_of_an_archive_count(tmp_path: Path) -> None:
    """A ZIP counts as the documents in it."""
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(11):
            archive.writestr(f"{number}.txt", "x")
    with pytest.raises(CliError):
        check_limits(select([path]), Limits(max_documents_per_batch=10))


def test_a_broken_archive_is_left_to_the_server(tmp_path: Path) -> None:
    """What is no ZIP counts as one document; the server says what is wrong with it."""
    path = write(tmp_path / "broken.zip", "not a zip")
    check_limits(select([path]), Limits(max_documents_per_batch=1))


def test_a_file_that_fits_no_request_is_refused_before_the_upload(tmp_path: Path) -> None:
    """All files together may be larger than a request: they go in several."""
    check_limits(some_files(tmp_path, 3), Limits(max_request_bytes=10))
    with pytest.raises(CliError) as caught:
        check_limits(some_files(tmp_path, 3), Limits(max_request_bytes=9))
    assert caught.value.exit_code == ExitCode.LIMIT


def test_a_selection_is_walked_as_often_as_needed(tmp_path: Path) -> None:
    """Its files are counted and not kept: each walk finds them anew, in the same order."""
    selection = some_files(tmp_path, 30)
    assert list(selection) == list(selection)
    assert (selection.file_count, selection.total_bytes, selection.largest_bytes) == (30, 300, 10)


# --- Metadata -------------------------------------------------------------------------------


def test_metadata_from_csv(tmp_path: Path) -> None:
    """Each row is a file; an empty cell is no value; a byte order mark does not hide the first column."""
    path = tmp_path / "m.csv"
    path.write_text("\ufefffilename,author,year\na.txt,Ines,2026\nb.txt,,2025\n", encoding="utf-8")
    assert read_metadata(path) == {"a.txt": {"author": "Ines", "year": "2026"}, "b.txt": {"year": "2025"}}


def test_metadata_from_json(tmp_path: Path) -> None:
    """JSON values keep their types."""
    path = write(tmp_path / "m.json", '{"a.txt": {"year": 2026, "tags": ["x"]}}')
    assert read_metadata(path) == {"a.txt": {"year": 2026, "tags": ["x"]}}


@pytest.mark.parametrize(
    ("name", "text"),
    [("m.json", "{"), ("m.json", "[]"), ("m.json", '{"a.txt": 1}'), ("m.csv", "file,author\na,b\n"), ("m.csv", "")],
)
def test_a_metadata_file_of_another_shape_is_refused(tmp_path: Path, name: str, text: str) -> None:
    """The error names the file and shows the shape that is wanted."""
    with pytest.raises(CliError) as caught:
        read_metadata(write(tmp_path / name, text))
    assert name in caught.value.detail
    assert caught.value.exit_code == ExitCode.USAGE


def test_metadata_finds_its_file_by_path_or_by_name() -> None:
    """The exact path wins over the bare name; what fits nothing is reported, and not sent."""
    files = [UploadFile(Path("a"), "sub/a.txt", 1), UploadFile(Path("b"), "b.txt", 1)]
    metadata = {"sub/a.txt": {"n": 1}, "a.txt": {"n": 2}, "b.txt": {"n": 3}, "in-zip.txt": {"n": 4}}
    found, used = match_metadata(files, metadata)
    assert found == {"sub/a.txt": {"n": 1}, "b.txt": {"n": 3}}
    assert used == {"sub/a.txt", "b.txt"}


def test_a_bare_name_reaches_a_file_in_a_folder() -> None:
    """Metadata written for `a.txt` fits `sub/a.txt`, and is sent under the name the file is sent by."""
    found, used = match_metadata([UploadFile(Path("a"), "sub/a.txt", 1)], {"a.txt": {"n": 1}})
    assert found == {"sub/a.txt": {"n": 1}}
    assert used == {"a.txt"}
