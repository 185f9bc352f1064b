"""The Python client against the running stack: what its page shows, and what only a real server can."""

from pathlib import Path

import pytest

from tests.support.examples import python_examples_of, run_python
from tests.support.running_stack import RunningStack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "ingest-from-python.md"


def test_each_example_of_the_documentation_runs(stack: RunningStack, shelf: Path, tmp_path: Path):
    """In order, as one program, in an empty folder; and each prints what the page shows."""
    examples = python_examples_of(PAGE)
    assert len(examples) >= 12
    for example, printed in run_python(examples, tmp_path, INGATHER_URL=stack.base_url, SHELF=str(shelf / "client")):
        assert printed == example.expected, f"line {example.line}"
