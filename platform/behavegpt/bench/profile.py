"""Where the time of the bare training loop goes, by part of the model.

In: sizes of the model. Out: lines of text. torch.profiler names operations; an operation of the forward pass belongs to
the innermost module that runs it, and one of the backward pass to the module whose forward operation it differentiates.
The profiler itself costs some microseconds an operation, so the shares of small models lean towards many small
operations; the step's time beside them is measured without it.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from behavegpt.bench.alone import run_alone
from behavegpt.model.config import ModelConfig
from behavegpt.schema import FEATURES

STEPS = 5
PREFIX = "part:"
PARTS = {
    **dict.fromkeys(FEATURES, "embeddings"),
    "attention_norm": "norms",
    "feed_forward_norm": "norms",
    "final_norm": "norms",
    "attention.qkv": "projections",
    "attention.output": "projections",
    "attention": "attention",
    "feed_forward": "feed-forward",
    "head": "head",
}
"""Group of a module by the end of its name, the longest that fits."""
OPTIMIZER = "optimizer"
"""AdamW; the clipping of the gradients and zero_grad come under their own names."""


def profile_lines(work: Path, sizes: Sequence[str], windows: int | None) -> list[str]:
    """Return a table: for each size the share of each part in the time of a step."""
    from behavegpt.bench.train import SHAPES, WINDOWS, model_of, write_log

    batches = {size: windows or WINDOWS[size] for size in sizes}
    write_log(work / "log", 8 * max(batches.values()))
    lines = []
    for size, batch in batches.items():
        model = model_of(size, work / "log")
        found = run_alone("behavegpt.bench.profile:shares", model=model, dataset=work / "log", windows=batch).value
        width, depth = SHAPES[size]
        step_ms = found.pop("step") * 1e3
        lines += [f"{size} ({depth} blocks of width {width}), batch {batch}: {step_ms:.2f} ms a step"]
        lines += [f"  {name:<24}{share:6.1%}" for name, share in sorted(found.items(), key=lambda item: -item[1])]
    return lines


def shares(model: ModelConfig, dataset: Path, windows: int) -> dict[str, float]:
    """Return the share of each part in a profiled step, and the seconds of one without the profiler as `step`."""
    from behavegpt.bench.bare import BareLoop
    from behavegpt.train.process import settle

    settle(threads=1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loop = BareLoop(model, dataset, windows, device)
    for _ in range(STEPS):
        loop.step()
    begin = time.perf_counter()
    for _ in range(STEPS):
        loop.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    step_s = (time.perf_counter() - begin) / STEPS
    _name_parts(loop.model)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(STEPS):
            with record_function("step"):
                loop.step()
    return {"step": step_s, **_shares(list(profiler.events() or []))}


def _name_parts(model: nn.Module) -> None:
    """Wrap the forward pass of each part of the model, so that the profile has a range of its name."""
    for name, module in model.named_modules():
        fitting = [end for end in PARTS if name == end or name.endswith(f".{end}")]
        if not fitting:
            continue
        label = PREFIX + PARTS[max(fitting, key=len)]
        ranges: list[Any] = []

        def begin(module: nn.Module, inputs: Any, label: str = label, ranges: list[Any] = ranges) -> None:
            ranges.append(record_function(label))
            ranges[-1].__enter__()

        def end(module: nn.Module, inputs: Any, output: Any, ranges: list[Any] = ranges) -> None:
            ranges.pop().__exit__(None, None, None)

        module.register_forward_pre_hook(begin)
        module.register_forward_hook(end)


def _shares(events: list[Any]) -> dict[str, float]:
    """Return the share of each part in the time of the steps, by the operations' own time."""
    # An operation and the node of its gradient have one sequence number; a node's event names a forward thread.
    part_of_node = {e.sequence_nr: _part(e) for e in events if e.sequence_nr >= 0 and not e.fwd_thread}
    total = sum(e.cpu_time_total for e in events if e.name == "step")
    own: dict[str, float] = defaultdict(float)
    for event in events:
        if event.name == "step" or event.name.startswith(PREFIX):
            continue
        backward = next((e for e in _ancestry(event) if _is_backward(e)), None)
        part = part_of_node.get(backward.sequence_nr, "loss") if backward is not None else _part(event)
        own[part] += event.self_cpu_time_total
    own["python"] = total - sum(own.values())
    return {part: time_us / total for part, time_us in own.items()}


def _part(event: Any) -> str:
    """Return the part of the model that the operation's innermost range names, or the phase of the step."""
    for ancestor in _ancestry(event):
        if ancestor.name.startswith(PREFIX):
            return ancestor.name.removeprefix(PREFIX)
        if ancestor.name.startswith("Optimizer.step"):
            return OPTIMIZER
        if ("norm" in ancestor.name and "layer_norm" not in ancestor.name) or ancestor.name == "aten::clamp":
            return "clipping"
        if "loss" in ancestor.name or "log_softmax" in ancestor.name:
            return "loss"
    return "residual stream and other"


def _ancestry(event: Any) -> list[Any]:
    found = [event]
    while found[-1].cpu_parent is not None:
        found.append(found[-1].cpu_parent)
    return found


def _is_backward(event: Any) -> bool:
    return event.name.startswith("autograd::engine::evaluate_function")
