"""What tests of the log share."""

from typing import Any

import asyncpg
import pytest
from integration.core.log_builder import LogWorld


@pytest.fixture
def world_of_log(pool: "asyncpg.Pool[Any]") -> LogWorld:
    """An empty log."""
    return LogWorld(pool)
