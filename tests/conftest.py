"""Fixtures that every stage's tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder with real logs (data/) and scaling tables (tables/), or skip the test."""
    root = Path(os.environ.get("BEHAVEGPT_SHARED", Path(__file__).parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip(f"real logs and tables are not at {root}; set BEHAVEGPT_SHARED to their folder")
    return root
