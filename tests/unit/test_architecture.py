"""The house keeps its own rules: who imports whom, what importing costs, which errors there are."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ingather.models.errors import Actor, IngatherError, error_classes
from tests.support.error_reference import REFERENCE, error_tree, render_reference

ROOT = Path(__file__).parents[2]
PACKAGES = ("ingather", "workflows", "activities", "api")
VENDORS = (
    "boto3", "botocore", "sqlalchemy", "alembic", "psycopg", "lancedb", "pyarrow", "redis", "pypdfium2", "wordllama",
    "office_oxide", "resiliparse", "httpx", "httpx_sse", "websockets", "fastapi", "starlette",
    "uvicorn",
)  # fmt: skip

LOADED_BY_IMPORT = """
import sys
import {module}
print("\\n".join(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""

IMPORT_ALL = """
import importlib, pkgutil, sys

FORBIDDEN = {"socket.connect", "socket.bind", "subprocess.Popen", "os.mkdir", "os.remove", "os.fork"}

def watch(event, arguments):
    if not watching:
        return
    if event in FORBIDDEN or (event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")):
        # Only our own module bodies are asked: what a vendor library does is its own affair.
        frame = sys._getframe(1)
        while frame is not None:
            name = frame.f_globals.get("__name__", "")
            if frame.f_code.co_name == "<module>":
                if name.partition(".")[0] in PACKAGES or name == "worker":
                    print(f"{name} does {event} {arguments[:1]!r} when imported")
                break
            frame = frame.f_back

PACKAGES = sys.argv[1:]
watching = False
sys.addaudithook(watch)
watching = True
import worker
for package in PACKAGES:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if ".migrations" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
watching = False
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter at the repository's root."""
    return subprocess.run(
        [sys.executable, "-B", "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_imports_follow_the_rules() -> None:
    """The contracts in pyproject.toml hold. A broken one names the import to move; the map is in CONTRIBUTING.md."""
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "module", ["workflows.batch", "ingather.cli.main", "ingather.client", "ingather.models.messages"]
)
def test_what_starts_often_starts_light(module: str) -> None:
    """Workflows, the command line, the client and the vocabulary load no server's or vendor's library.

    Workflow modules are imported again in every sandbox, and replay tests start with them.
    """
    loaded = set(python(LOADED_BY_IMPORT.format(module=module)).stdout.split())
    assert module.partition(".")[0] in loaded
    assert sorted(loaded & set(VENDORS)) == []


def test_the_api_loads_nothing_it_does_not_use() -> None:
    """Vectors, Arrow, the index and the parsers belong to workers and the search process: they would cost it 60 MB."""
    loaded = set(python(LOADED_BY_IMPORT.format(module="api.app")).stdout.split())
    assert "fastapi" in loaded
    assert sorted(loaded & {"numpy", "pyarrow", "lancedb", "boto3", "pypdfium2", "office_oxide", "wordllama"}) == []


@pytest.mark.slow
def test_import_is_free() -> None:
    """No module of ours opens, connects or starts anything when it is imported."""
    result = python(IMPORT_ALL, *PACKAGES)
    assert (result.stdout, result.returncode) == ("", 0), result.stdout + result.stderr


def test_every_error_has_a_code_of_its_own() -> None:
    """Two classes of one code could not be told apart by anybody who reads it."""
    tree = error_tree()
    assert [code for code, count in Counter(cls.code for cls in tree).items() if count > 1] == []
    assert set(error_classes()) >= {cls.code for cls in tree}
    assert all("code" in vars(cls) for cls in tree)


@pytest.mark.parametrize("cls", error_tree(), ids=lambda cls: cls.code)
def test_every_error_says_what_it_is_and_what_to_do(cls: type[IngatherError]) -> None:
    """A stable word, a title of its own, advice in a sentence, and the HTTP status of an error."""
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", cls.code)
    assert "title" in vars(cls)
    assert not cls.title.endswith(".")
    assert cls.advice.endswith(".")
    assert isinstance(cls.actor, Actor)
    assert 400 <= cls.http_status < 600
    error = cls("What happened.", count=1)
    assert (error.message, error.action, error.facts) == ("What happened.", cls.advice, {"count": 1})


def test_titles_tell_errors_apart() -> None:
    """Lists of failures show titles side by side."""
    assert [title for title, count in Counter(cls.title for cls in error_tree()).items() if count > 1] == []


def test_the_error_reference_is_current() -> None:
    """docs/reference/errors.md lists every code as the tree has it."""
    written = REFERENCE.read_text(encoding="utf-8") if REFERENCE.exists() else ""
    missing = [cls.code for cls in error_tree() if f"### `{cls.code}`" not in written]
    assert written == render_reference(), (
        f"docs/reference/errors.md is out of date (not in it: {', '.join(missing) or 'none'}). "
        "Write it again with `.venv/bin/python -m tests.support.error_reference` and commit it."
    )
