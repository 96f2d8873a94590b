"""The oracle of generation says what the generator's own oracle says of the same windows."""

from pathlib import Path

import numpy as np
import pytest

from behavegpt.data.manifest import read_manifest
from behavegpt.data.synthetic.generator import GeneratorConfig, generate, write_generated
from behavegpt.data.synthetic.oracle import true_probabilities
from behavegpt.schema import FEATURES
from behavegpt.tasks.generation.oracle import OracleVoice, is_generated
from behavegpt.tasks.generation.story import Story

CONFIG = GeneratorConfig(num_users=30, num_train_events=4_000, num_val_windows=20, num_test_windows=4)
"""So short that training does not see some behaviours and many places."""


@pytest.mark.parametrize("length", [1, 2, 3, 60])
def test_probabilities_are_the_generators(tmp_path: Path, length: int):
    write_generated(tmp_path / "set", CONFIG, "set")
    manifest = read_manifest(tmp_path / "set")
    assert is_generated(manifest)
    log = generate(CONFIG)
    ids, expected = log.splits["val"], true_probabilities(log.world, log.values["val"])[:, length - 1]
    columns = {name: getattr(ids, name)[:, :length] for name in (*FEATURES, "behavior")}
    story = Story.begin(ids.user, columns, np.full(len(ids), length), 1)
    p_BV = np.exp(OracleVoice(tmp_path / "set", manifest).go_on(story))
    names = log.vocabularies["behavior"].values
    known = [int(name.removeprefix("behavior-")) for name in names]
    # A place or an event that is `other` hides its habit: the generator knows it, the ids do not.
    recent = slice(max(0, length - 2), length)
    shown = ((columns["location"][:, recent] > 1) & (columns["event"][:, recent] > 1)).all(axis=1)
    assert shown.sum() > 5
    assert p_BV.shape == (len(ids), len(known) + 1)
    np.testing.assert_allclose(p_BV[shown][:, 1:], expected[shown][:, known], atol=1e-12)
    np.testing.assert_allclose(p_BV.sum(axis=1), 1)
    assert len(known) < CONFIG.num_behaviors
    assert p_BV[:, 0].min() > 0
