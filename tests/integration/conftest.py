"""What several contract suites share."""

from collections.abc import Iterator

import pytest

from tests.support.postgres import started_postgres


@pytest.fixture(scope="session")
def postgres_sockets() -> Iterator[str]:
    """A private PostgreSQL server, as the folder of its sockets; the test is skipped where there is none."""
    with started_postgres() as sockets:
        yield sockets
