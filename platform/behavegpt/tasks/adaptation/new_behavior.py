"""New behaviours: hold some out of pretraining, add one at a time from a few shots, and ask what pretraining was worth.

In: the flags of jobs/adapt.py new-behavior. Out: the paper's Table 3 for any dataset: macro recall and recall of the
new behaviour, against the same model trained from scratch on the same shots in the same steps, and against the
pretrained one that was told the new behaviour's frequency alone. All that is made is found again by a rerun.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from behavegpt.config import config_hash, plain
from behavegpt.data.card.text import percent, plural, shown
from behavegpt.data.manifest import Manifest, read_manifest
from behavegpt.data.vocab import read_vocabulary
from behavegpt.lease import lease
from behavegpt.loss.counts import count_targets
from behavegpt.tasks.ablation.text import lines
from behavegpt.tasks.adaptation.new_behavior_data import derive
from behavegpt.tasks.adaptation.new_behavior_figures import Balanced, StartFigures, judge, measure
from behavegpt.tasks.adaptation.new_behavior_report import UNTRAINED, Found, Report, Stage, sections, write_report
from behavegpt.tasks.adaptation.new_behavior_request import NewBehavior
from behavegpt.tasks.adaptation.new_behavior_task import Task, open_task
from behavegpt.tasks.adaptation.new_behavior_training import (
    Judged,
    Planner,
    Start,
    Train,
    Tuned,
    choose_rate,
    few_shot_jobs,
    pretrain,
    trained_system,
    untrained_system,
)
from behavegpt.tasks.adaptation.new_behavior_weights import extend
from behavegpt.tasks.figures import FIRST_BEHAVIOR
from behavegpt.tasks.system import System
from behavegpt.tasks.targets import Split, TargetBatch, read_targets
from behavegpt.train.config import TrunkJob
from behavegpt.train.saved import SavedModel, read_saved


@dataclass(frozen=True, slots=True)
class _Work:
    """What a task runs with."""

    task: Task
    plan: Planner
    train: Train

    @property
    def out(self) -> Path:
        return self.task.request.out

    def jobs(self, dataset: Path, num_events: int) -> Sequence[TrunkJob]:
        """Return one job a seed on the dataset."""
        request, models = self.task.request, self.task.models
        width, depth = (models[0].model.width, models[0].model.depth) if models else (request.width, request.depth)
        return self.plan(dataset, num_events=num_events, width=width, depth=depth, seeds=self.task.seeds)


def run(request: NewBehavior, plan: Planner, train: Train) -> None:
    """Train what is missing, evaluate, write new-behavior.json, .md and .html into --out, and print the tables.

    Raises:
        InputError: A flag, the dataset or a model is wrong; nothing is written.
        RefusedError: A run diverged that nothing stands in for.
        DirectoryBusyError: Another live run works in --out.
    """
    task = open_task(request)
    work = _Work(task, plan, train)
    # On the whole dataset: what is wrong with sizes or seeds is found before anything is written.
    work.jobs(request.dataset, request.num_events or task.manifest.splits["train"].num_targets)
    torch.set_num_threads(request.execution.cpus_per_worker)
    with lease(request.out):
        setting = [_held_out(task), _few_shots(task)]
        print(*setting, sep="\n", flush=True)
        models, said = _pretrained(work)
        report = Report(
            dataset=task.manifest.name,
            fingerprint=task.manifest.fingerprint,
            model=f"width {models[0].model.width}, {plural(models[0].model.depth, 'block')}",
            setting=(setting[0], said, setting[1]),
            facts={"request": plain(request), "models": [model.sha256 for model in models]},
            found=tuple(_new_behavior(work, name, models) for name in task.behaviors),
        )
        parts = sections(report)
        page = write_report(request.out, report, parts)
    print(*lines(parts), "", page, sep="\n")


def _pretrained(work: _Work) -> tuple[list[SavedModel], str]:
    """Return the pretrained models, one a seed, and a sentence about them."""
    task = work.task
    if task.models:
        return list(task.models), f"Pretrained elsewhere: {', '.join(str(m.directory) for m in task.models)}."
    dataset = derive(task.pretraining(), work.out / "data")
    num_events = task.request.num_events or read_manifest(dataset).splits["train"].num_targets
    said = (
        f"Pretrained with plain cross-entropy: width {task.request.width}, {plural(task.request.depth, 'block')}, "
        f"D = {num_events:,} targets, seeds {', '.join(map(str, task.seeds))}."
    )
    print(said, flush=True)
    return pretrain(work.jobs(dataset, num_events), work.train, work.out), said


def _new_behavior(work: _Work, name: str, models: Sequence[SavedModel]) -> Found:
    """Train both starts on the few shots with one new behaviour, and let them predict the test split."""
    task = work.task
    shots = _few_shot_set(work, name)
    initial = [read_saved(_extended(work, shots, model, seed)) for seed, model in zip(task.seeds, models, strict=True)]
    planned = work.jobs(shots.dataset, shots.manifest.splits["train"].num_targets)
    by_start = few_shot_jobs(planned, shots.file_name, task.request.rates, initial)
    work.train([job for by_rate in by_start.values() for group in by_rate.values() for job in group])
    print(f"score {shown(name)}", flush=True)
    device = torch.device("cuda" if task.request.execution.use_gpu else "cpu")

    def judged(job: TrunkJob) -> Judged:
        system = trained_system(job, job.trunk_id, device)
        return judge(system, shots.targets("val"), shots.new, len(shots.counts))

    tuned: dict[Start, Tuned] = {start: choose_rate(by_rate, judged) for start, by_rate in by_start.items()}
    systems: dict[str, list[System]] = {
        start: [trained_system(job, start, device) for job in one.jobs] for start, one in tuned.items()
    }
    systems[UNTRAINED] = [untrained_system(model, UNTRAINED, device) for model in initial]
    return Found(
        name=name,
        label=task.behaviors[name],
        share=task.survey.share(name),
        num_few=int(shots.counts[shots.new]) // task.request.passes,
        num_test=int(task.survey.test[task.survey.behavior_id(name) - 1]),
        figures=_figures(shots, systems),
        rates={start: one.rate for start, one in tuned.items()},
        judged={start: one.judged for start, one in tuned.items()},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _FewShotSet:
    """The dataset with one new behaviour, of training the few shots alone."""

    dataset: Path
    manifest: Manifest
    counts: np.ndarray
    """(V,) training targets of each class, counted once a pass."""
    new: int
    """Class of the new behaviour."""
    file_name: str
    """Of the behaviour, in names of files."""

    def targets(self, split: Split) -> Iterator[TargetBatch]:
        """Yield every target of a split."""
        return read_targets(self.dataset, self.manifest, split, "every")


def _few_shot_set(work: _Work, name: str) -> _FewShotSet:
    dataset = derive(work.task.few_shots(name), work.out / "data")
    manifest = read_manifest(dataset)
    values = read_vocabulary(dataset / manifest.vocabulary_path("behavior")).values
    return _FewShotSet(
        dataset=dataset,
        manifest=manifest,
        counts=count_targets(dataset, manifest),
        new=values.index(name) + FIRST_BEHAVIOR,
        file_name=f"b{work.task.survey.behavior_id(name)}",
    )


def _extended(work: _Work, shots: _FewShotSet, model: SavedModel, seed: int) -> Path:
    """Return the directory of a pretrained model, extended to the new behaviour."""
    digest = config_hash({"extends": model.sha256, "dataset": shots.manifest.fingerprint}, 8)
    out = work.out / "models" / f"{shots.file_name}-s{seed}-{digest}"
    return extend(model, shots.dataset, shots.manifest, shots.counts, seed, out)


def _figures(shots: _FewShotSet, systems: dict[str, list[System]]) -> dict[Stage, dict[str, StartFigures]]:
    """Return the figures of every start on the test split, as trained and with the prior corrected to uniform."""
    stages: dict[Stage, dict[str, list[System]]] = {
        "as trained": systems,
        "balanced": {start: [Balanced(system, shots.counts) for system in group] for start, group in systems.items()},
    }
    num_classes = len(shots.counts)
    return {
        stage: measure(group, lambda: shots.targets("test"), new=shots.new, num_classes=num_classes)
        for stage, group in stages.items()
    }


def _held_out(task: Task) -> str:
    named = [f"{shown(n)} ({label}, {percent(task.survey.share(n), 1)})" for n, label in task.behaviors.items()]
    types, others = len(task.survey.own_events(task.held_out)), len(task.held_out) - len(task.behaviors)
    more = f", and {plural(others, 'behaviour')} that the models do not know either" if others else ""
    return (
        f"Held out of pretraining, with their share of the training targets: {', '.join(named)}{more}. Their events "
        f"are dropped as input and as target, with {plural(types, 'event type')} of theirs alone, and the windows are "
        "cut anew from what is left; then one behaviour at a time comes back, in validation and test as well."
    )


def _few_shots(task: Task) -> str:
    request, found = task.request, task.survey
    num_users, num_targets = len(found.shots.users), int(found.few.sum())
    rate = num_targets / int(found.train.sum())
    return (
        f"Few shots: the last {plural(request.days, 'day')} of training of {num_users:,} of {found.num_users:,} users "
        f"({percent(num_users, found.num_users)}), {num_targets:,} targets ({percent(rate, 1)} of training) less those "
        f"of the other held-out behaviours, each {plural(request.passes, 'time')}. From scratch and adapted the same "
        "targets in the same steps; each start takes its rate by recall on validation."
    )
