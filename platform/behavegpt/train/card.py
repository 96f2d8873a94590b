"""The card of a finished model: what it is, what it learned from, how well it predicts, and what it is no use for.

In: the record in its config.json. Out: Markdown.
"""

from pathlib import Path
from typing import Any

from behavegpt.model.config import ModelConfig
from behavegpt.model.sizing import count_params
from behavegpt.schema import NUM_INPUTS
from behavegpt.train.correction import shift_note


def card_text(record: dict[str, Any]) -> str:
    """Return the card."""
    model = ModelConfig(**record["model"])
    counts = count_params(model)
    lines = [
        f"# BehaveGPT {model.depth} x {model.width} on {_plain(record['dataset']['name'])}",
        "",
        "A causal transformer over a user's events (weekday, half hour, place, event) that predicts the behaviour of",
        f"the next one, from up to {NUM_INPUTS} events.",
        "",
        f"- {counts.total:,} parameters: {counts.non_embedding:,} in blocks and head, {counts.embedding:,} in tables",
        f"- {model.depth} blocks of width {model.width}, {model.num_heads} heads; {model.num_classes:,} classes",
        f"- weights: sha256 {record['weights_sha256']}",
        "",
        "## Data",
        "",
        f"Dataset {_plain(record['dataset']['name'])}, fingerprint {record['dataset']['fingerprint']}.",
        "",
        "| split | users | windows | targets |",
        "|---|---|---|---|",
        *(
            f"| {name} | {s['num_users']:,} | {s['num_windows']:,} | {s['num_targets']:,} |"
            for name, s in record["dataset"]["splits"].items()
        ),
        "",
        "## Training",
        "",
        f"{record['checkpoint']['cursor']['step']:,} optimiser steps, checkpoint {record['checkpoint']['name']}, by",
        f"behavegpt {record['checkpoint']['code_version']}. The whole recipe is `train` in config.json.",
        "",
        *(f"- {key}: {_plain(value)}" for key, value in record["train"].items() if not isinstance(value, list | dict)),
        f"- loss: {_plain((record['train'].get('loss') or {}).get('kind', 'cross-entropy'))}",
        *_prior_lines(record),
        "",
        "## Metrics",
        "",
        *_metric_lines(record),
        "",
        "## Limits",
        "",
        "- It knows the places, events and behaviours of vocabulary.json; anything else is `other`, which it never",
        "  predicts well.",
        "- It learned how one population behaved in one period; on another, measure before use.",
        "- Rare behaviours are predicted worse than the mean loss says; the loss above is a mean over targets.",
        "- It predicts what people tend to do, not what a person will do or should; it is no basis for decisions about",
        "  single persons.",
        "",
        "## Use",
        "",
        "```python",
        "from pathlib import Path",
        "from behavegpt.train.saved import load_model",
        "",
        'model = load_model(Path("this/directory"))  # torch and safetensors; no DeepSpeed, no Ray',
        "```",
    ]
    return "\n".join(lines) + "\n"


def _prior_lines(record: dict[str, Any]) -> list[str]:
    if strength := record["prior_correction"]:
        return [f"- class prior corrected to the training split's, {strength:g} of the way (1 is in full)"]
    note = shift_note(Path("config.json"), record)
    return [f"- {note}"] if note else []


def _metric_lines(record: dict[str, Any]) -> list[str]:
    result = record["result"]
    if result is None and record["prior_correction"]:
        return ["Measured before the correction alone; jobs/evaluate.py measures these weights."]
    if result is None:
        return ["A checkpoint on the way: its validation loss was not measured."]
    return [
        f"- validation loss {result['loss']:.4f} +- {result['loss_stderr']:.4f} nats per target (plain cross-entropy)",
        f"- {result['num_events']:,} unique training targets, {result['flops']:.3g} training FLOPs",
    ]


def _plain(value: Any) -> str:
    """Return the value on one line, without what Markdown or HTML would take for markup."""
    text = " ".join(str(value).split())
    return "".join(f"&#{ord(c)};" if c in "<>&|[]`*_\\" else c for c in text)
