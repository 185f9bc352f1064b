"""Examples of a page of documentation, to be run as a reader would: in order, in one shell, in one folder."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SAVED_AS = re.compile(r"[Ss]ave this as `([\w.-]+)`:\s*\Z")
_ANYTHING = "…"
_END = "--- end of example ---"


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


def run_examples(examples: list[Example], folder: Path, **environment: str) -> Iterator[tuple[Example, str]]:
    """What each example printed. Fails with what the shell said when one of them fails."""
    for example in examples:
        for name, content in example.files.items():
            (folder / name).write_text(content, encoding="utf-8")
    script = "set -euo pipefail\n" + "".join(f"{example.script}\necho; echo '{_END}'\n" for example in examples)
    run = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "no_proxy": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    printed = run.stdout.split(f"\n{_END}\n")
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
