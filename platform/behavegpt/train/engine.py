"""One optimiser step on a sharded model: DeepSpeed ZeRO 0 to 3, and plain torch as the reference it must equal.

In: a model, the recipe and the execution. Out: an `Engine` that takes forward, backward and step, and writes and reads
its own part of a checkpoint (state.py). The only file that imports deepspeed.

Both engines sum gradients over micro-batches and workers and divide by the workers' number; the caller scales its local
loss accordingly.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from behavegpt.model.transformer import BehaveGPT
from behavegpt.train.config import ExecutionConfig, TrainConfig
from behavegpt.train.distributed import rank, world_size
from behavegpt.train.optim import build_optimizer, clip_gradients, set_rates
from behavegpt.train.reference import TorchEngine
from behavegpt.train.state import (
    SLOTS,
    FullState,
    WholeState,
    make_moments,
    read_state,
    steps_taken,
    write_state,
)


class Engine(Protocol):
    """What the training loop needs of an engine. Every method is called by all ranks together."""

    module: nn.Module
    """The model to call: forward for logits, train() and eval()."""

    def accumulate(self, loss: Tensor) -> None:
        """Back-propagate the loss of a micro-batch that is not the step's last one."""
        ...

    def step(self, loss: Tensor, lr_factor: float) -> float:
        """Back-propagate `loss`, clip, update at lr_factor x the peak rates; return the norm before clipping.

        Where the norm is not finite neither weights nor optimiser move. The gradients may be left behind: such an
        engine is thrown away.
        """
        ...

    def save(self, directory: Path) -> None:
        """Write weights and optimiser state into `directory`, which exists on every rank."""
        ...

    def load(self, directory: Path) -> None:
        """Restore, bit for bit, what `save` of any engine wrote on any number of workers. The caller has checked it."""
        ...


def build_engine(model: BehaveGPT, config: TrainConfig, execution: ExecutionConfig) -> Engine:
    """Return the engine of `execution` around `model`, which is on its device and initialised alike on every rank."""
    optimizer = build_optimizer(model, config)
    if execution.engine == "torch":
        return TorchEngine(model, optimizer, config.clip_norm)
    return DeepSpeedEngine(model, optimizer, config, execution)


class DeepSpeedEngine:
    """DeepSpeed with the ZeRO stage of the execution and the precision of the recipe."""

    def __init__(
        self, model: BehaveGPT, optimizer: torch.optim.AdamW, train: TrainConfig, execution: ExecutionConfig
    ) -> None:
        # Without ZeRO and in fp32 DeepSpeed clips, but does not tell the norm: there the clipping is torch's own.
        self._clip_norm = train.clip_norm if execution.zero_stage == 0 and train.precision == "fp32" else None
        deepspeed = _import_deepspeed(execution.use_gpu)
        self._peak_rates = [group["lr"] for group in optimizer.param_groups]
        self._parameters = dict(model.named_parameters())
        config = deepspeed_config(train, execution, sum(p.numel() for p in model.parameters()))
        self._engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        # The caller says which micro-batch is a step's last one: their number changes with the batch.
        self._engine.set_gradient_accumulation_boundary(True)
        self.module: nn.Module = self._engine
        self._state = _state_of(deepspeed, self._engine, optimizer)
        if self._clip_norm:
            # DeepSpeed's own walks through all modules by name: a hundredth of a small model's step.
            self._engine.zero_grad = optimizer.zero_grad
        if self._clip_norm and world_size() == 1:
            # There is nobody to reduce with; copying every gradient there and back is half of a small model's step.
            self._engine.enable_backward_allreduce = False

    def accumulate(self, loss: Tensor) -> None:
        self._engine.set_gradient_accumulation_boundary(False)
        self._engine.backward(loss, scale_wrt_gas=False)
        self._engine.set_gradient_accumulation_boundary(True)

    def step(self, loss: Tensor, lr_factor: float) -> float:
        self._engine.backward(loss, scale_wrt_gas=False)
        norm = clip_gradients(list(self._parameters.values()), self._clip_norm) if self._clip_norm else None
        if norm is not None and not math.isfinite(norm):
            return norm
        set_rates(self._engine.optimizer, self._peak_rates, lr_factor)
        # Under ZeRO and in bf16 DeepSpeed itself skips an update whose norm is not finite.
        self._engine.step()
        return float(self._engine.get_global_grad_norm() if norm is None else norm)

    def save(self, directory: Path) -> None:
        write_state(directory, self._parameters, self._state)

    def load(self, directory: Path) -> None:
        read_state(directory, self._parameters, self._state)


def _state_of(deepspeed: ModuleType, engine: Any, optimizer: torch.optim.AdamW) -> FullState:
    """Return how the state of an engine is reached, by where DeepSpeed keeps it."""
    if engine.zero_optimization_stage() > 0:
        return ShardedState(deepspeed, engine)
    if engine.optimizer is optimizer:
        return WholeState(optimizer)
    groups = zip(engine.optimizer.fp16_groups, engine.optimizer.fp32_groups, strict=True)
    return WholeState(optimizer, {own: copy for pair in groups for own, copy in zip(*pair, strict=True)})


class ShardedState:
    """Of an optimiser whose float32 weights and moments ZeRO has cut over the workers."""

    def __init__(self, deepspeed: ModuleType, engine: Any) -> None:
        self._tools = deepspeed.utils
        self._gathered = deepspeed.zero.GatheredParameters
        self._optimizer = engine.optimizer
        self._stage_3 = engine.zero_optimization_stage() == 3
        # DeepSpeed 0.19 links its views of the moments after the first group's first step, when the other groups have
        # none; here all exist before it.
        self.prepare(0.0)

    def read(self, parameter: nn.Parameter, slot: str) -> Tensor:
        if not parameter.requires_grad:
            with self._gathered([parameter]):
                return parameter.detach().clone()
        if slot == "weight":
            return self._tools.safe_get_full_fp32_param(parameter)
        return self._tools.safe_get_full_optimizer_state(parameter, slot)

    @torch.no_grad()
    def write(self, parameter: nn.Parameter, values: Mapping[str, Tensor]) -> None:
        if not parameter.requires_grad:
            self._write_frozen(parameter, values["weight"])
            return
        if not self._stage_3:
            self._tools.safe_set_full_fp32_param(parameter, values["weight"])
            for slot in SLOTS[1:]:
                self._tools.safe_set_full_optimizer_state(parameter, values[slot], slot)
            parameter.copy_(values["weight"])
            return
        # DeepSpeed 0.19 forgets the padding of a parameter that the workers do not divide, so the share is cut here.
        share = {slot: self._share(parameter, value) for slot, value in values.items()}
        self._tools.safe_set_local_fp32_param(parameter, share["weight"])
        for slot in SLOTS[1:]:
            self._tools.safe_set_local_optimizer_state(parameter, share[slot], slot)
        self._write_frozen(parameter, values["weight"])

    def _write_frozen(self, parameter: nn.Parameter, weight: Tensor) -> None:
        """Write what the model computes with, which the optimiser has no part in."""
        with self._gathered([parameter], modifier_rank=0):
            if rank() == 0 or not self._stage_3:
                parameter.copy_(weight)

    def steps(self) -> float:
        return steps_taken(self._optimizer.optimizer)

    def prepare(self, steps: float) -> None:
        if self._stage_3:
            make_moments(self._optimizer.optimizer, self._optimizer.fp32_partitioned_groups_flat, steps)
            return
        for group in self._optimizer.optimizer.param_groups:
            make_moments(self._optimizer.optimizer, group["params"], steps)
        self._optimizer._lazy_init_hp_params_optimizer_state()

    def _share(self, parameter: nn.Parameter, value: Tensor) -> Tensor:
        size: int = parameter.ds_tensor.numel()  # pyright: ignore[reportAttributeAccessIssue] - ZeRO 3 adds it
        return pad(value.flatten(), (0, size * world_size() - value.numel())).narrow(0, size * rank(), size)


def deepspeed_config(train: TrainConfig, execution: ExecutionConfig, num_params: int) -> dict[str, Any]:
    """Return DeepSpeed's configuration."""
    place = {"device": "cpu", "pin_memory": True}
    # DeepSpeed takes its bucket of 5e8 values at once: 2 GB, also for a model that fits into a hundredth of it.
    bucket = min(num_params, 500_000_000)
    zero: dict[str, Any] = {"stage": execution.zero_stage, "reduce_bucket_size": bucket}
    if execution.offload != "none":
        zero["offload_optimizer"] = place
    if execution.offload == "parameters":
        zero["offload_param"] = place
    return {
        "train_micro_batch_size_per_gpu": 1,  # DeepSpeed only reports with it; the plan sets the batch
        # Offloaded gradients are summed over micro-batches only where DeepSpeed is told that there are several.
        "gradient_accumulation_steps": 1 if execution.offload == "none" else 2,
        "gradient_clipping": 0.0 if execution.zero_stage == 0 and train.precision == "fp32" else train.clip_norm,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,  # torch's fused AdamW runs on CPUs too, and compiles nothing
        "bf16": {"enabled": train.precision == "bf16", "check_grad_overflow": True},
        "zero_allow_untested_optimizer": False,
        "steps_per_print": 2**62,
    }


def _import_deepspeed(use_gpu: bool) -> ModuleType:
    """Import deepspeed so that nothing is compiled on a CPU, and hand it the process group that Ray Train made."""
    if not use_gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed
    import deepspeed.ops

    # Its C++ build takes minutes and serves inference_all_reduce alone.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="nccl" if use_gpu else "gloo")
    return deepspeed
