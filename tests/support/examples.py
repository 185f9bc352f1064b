"""Examples of a page of documentation, to be run as a reader would: in order, in one shell, in one folder."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SAVED_AS = re.compile(r"[Ss]ave this as `([\w.-]+)`:\s*\Z")
_ANYTHING = "…"
_END = "--- end of example ---"
_ROOT = Path(__file__).parents[2]


@dataclass
class Example:
    """A shell block, the files that the page asked to be saved before it, and what it should print."""

    line: int
    script: str
    files: dict[str, str] = field(default_factory=dict)
    expected: Any = None


def examples_of(page: Path) -> list[Example]:
    """A page's examples: the JSON block that follows a shell block is what it prints."""
    found: list[Example] = []
    waiting: dict[str, str] = {}
    text = page.read_text(encoding="utf-8")
    for block in _BLOCK.finditer(text):
        kind, content = block.groups()
        name = _SAVED_AS.search(text, 0, block.start())
        if name is not None:
            waiting[name.group(1)] = content
        elif kind == "bash":
            found.append(Example(text.count("\n", 0, block.start()) + 1, content, waiting))
            waiting = {}
        elif kind == "json" and found and found[-1].expected is None:
            found[-1].expected = json.loads(content)
    return found


def python_examples_of(page: Path) -> list[Example]:
    """A page's examples in Python: the text block that follows one is what it prints, to the letter."""
    found: list[Example] = []
    text = page.read_text(encoding="utf-8")
    for block in _BLOCK.finditer(text):
        kind, content = block.groups()
        if kind == "python":
            found.append(Example(text.count("\n", 0, block.start()) + 1, content, expected=""))
        elif kind == "text" and found:
            found[-1].expected = content
    return found


def run_examples(examples: list[Example], folder: Path, **environment: str) -> Iterator[tuple[Example, str]]:
    """What each example printed, in one shell. Fails with what the shell said when one of them fails."""
    for example in examples:
        for name, content in example.files.items():
            (folder / name).write_text(content, encoding="utf-8")
    script = "set -euo pipefail\n" + "".join(f"{example.script}\necho; echo '{_END}'\n" for example in examples)
    return _run(["bash", "-c", script], f"\n{_END}\n", examples, folder, environment)


def run_python(examples: list[Example], folder: Path, **environment: str) -> Iterator[tuple[Example, str]]:
    """What each example printed, in one program. Fails with what Python said when one of them fails."""
    program = "".join(f"{example.script}\nprint({_END!r})\n" for example in examples)
    command = [sys.executable, "-W", "error", "-c", program]
    return _run(command, f"{_END}\n", examples, folder, {"PYTHONPATH": str(_ROOT), **environment})


def _run(
    command: list[str], separator: str, examples: list[Example], folder: Path, environment: dict[str, str]
) -> Iterator[tuple[Example, str]]:
    run = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "no_proxy": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    printed = run.stdout.split(separator)
    assert run.returncode == 0, (
        f"the example at line {examples[len(printed) - 1].line} failed: {run.stdout}{run.stderr}"
    )
    return zip(examples, printed, strict=False)


def fits(expected: Any, actual: Any) -> bool:
    """Whether an answer is what the page shows; ``…`` on the page stands for anything."""
    match expected:
        case str() if expected == _ANYTHING:
            return actual is not None
        case dict():
            is_object = isinstance(actual, dict) and expected.keys() == actual.keys()
            return is_object and all(fits(value, actual[key]) for key, value in expected.items())
        case list():
            is_list = isinstance(actual, list) and len(expected) == len(actual)
            return is_list and all(fits(*pair) for pair in zip(expected, actual, strict=True))
    return bool(expected == actual)
