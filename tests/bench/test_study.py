"""The bare loop that a study is compared with: it takes the study's steps, no more and no less."""

from pathlib import Path

import pytest

from behavegpt.bench import study as bench
from behavegpt.data.manifest import read_manifest
from behavegpt.data.synthetic.config import GeneratorConfig
from behavegpt.data.synthetic.generator import write_generated
from behavegpt.study.config import StudyConfig, of_widths
from behavegpt.study.grid import plan_study


def test_the_bare_loop_takes_the_steps_of_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = GeneratorConfig(num_users=40, num_train_events=9_000, num_val_windows=4, num_test_windows=2)
    write_generated(tmp_path / "data", config, "tiny")
    study = StudyConfig(name="test", sizes=of_widths(4, 8), num_events=(2_000, 4_000))
    plan = plan_study(study, read_manifest(tmp_path / "data"), tmp_path / "data", tmp_path / "study")
    windows, real = [], bench.cross_entropy

    def counted(logits, targets, **options):
        windows.append(len(targets) // 90)
        return real(logits, targets, **options)

    monkeypatch.setattr(bench, "cross_entropy", counted)
    assert bench.train_bare(plan.jobs, 1) > 0
    assert (len(windows), sum(windows)) == (sum(c.steps for c in plan.costs), sum(c.windows for c in plan.costs))
    assert not (tmp_path / "study").exists()
