"""Kill -9 at any step: the dataset is the old one or the new one, and a rerun completes what was begun."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Log, pseudonym

SCRIPT = Path(__file__).parent / "kill_everywhere.py"


@pytest.mark.chaos
@pytest.mark.slow
def test_killed_at_any_step_it_is_old_or_new_and_a_rerun_completes(log: Log, tmp_path: Path) -> None:
    every = 7
    command = [sys.executable, str(SCRIPT), str(log.directory), str(tmp_path / "runs"), str(every), str(pseudonym(3))]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=env)
    assert done.returncode == 0, done.stderr
    *kills, whole = map(json.loads, done.stdout.splitlines())
    old, new = log.manifest.fingerprint, whole["rerun"]["fingerprint"]
    assert old != new and whole["marked"] and whole["killed"]["problems"] == []
    before = [kill for kill in kills if kill["killed"]["fingerprint"] == old]
    after = [kill for kill in kills if kill["killed"]["fingerprint"] == new]
    assert len(before) >= 5 and len(after) >= 2 and len(before) + len(after) == len(kills)
    assert all(kill["killed"]["problems"] == [] for kill in before)
    for kill in after:
        assert [said.split(":")[0] for said in kill["killed"]["problems"]] == kill["killed"]["replaced"]
    for kill in kills:
        assert kill["rerun"] == whole["rerun"] and kill["marked"]
        assert set(whole["files"]) <= set(kill["files"])
        extra = set(kill["files"]) - set(whole["files"])
        assert all(Path(name).name.startswith(".manifest.json.") for name in extra), extra
