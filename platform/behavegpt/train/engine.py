"""One optimiser step on a sharded model: DeepSpeed ZeRO 0 to 3, and plain torch as the reference it must equal.

In: a model, the recipe and the execution. Out: an `Engine` that takes forward, backward and step, and writes and reads
its own part of a checkpoint. The only file that imports deepspeed.

Both engines sum gradients over workers and divide by their number; the caller scales its local loss accordingly.
"""

import os
from pathlib import Path
from types import ModuleType
from typing import Protocol

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from behavegpt.model.transformer import BehaveGPT
from behavegpt.train.config import ExecutionConfig, TrainConfig
from behavegpt.train.distributed import rank, world_size
from behavegpt.train.optim import build_optimizer

DEEPSPEED_TAG = "engine"


class Engine(Protocol):
    """What the training loop needs of an engine. Every method is called by all ranks together."""

    module: nn.Module
    """The model to call: forward for logits, train() and eval()."""

    def step(self, loss: Tensor, lr_factor: float) -> float:
        """Back-propagate `loss`, clip, update at lr_factor x the peak rates; return the norm before clipping."""
        ...

    def save(self, directory: Path) -> None:
        """Write model and optimiser state into `directory`, which exists on every rank."""
        ...

    def load(self, directory: Path) -> None:
        """Restore what `save` wrote, bit for bit. The directory's digests have been checked by the caller."""
        ...


def build_engine(model: BehaveGPT, config: TrainConfig, execution: ExecutionConfig) -> Engine:
    """Return the engine of `execution` around `model`, which is on its device and initialised alike on every rank."""
    optimizer = build_optimizer(model, config)
    if execution.engine == "torch":
        return TorchEngine(model, optimizer, config.clip_norm)
    return DeepSpeedEngine(model, optimizer, config, execution)


class TorchEngine:
    """The reference: all-reduce, clip_grad_norm_, AdamW."""

    def __init__(self, model: BehaveGPT, optimizer: torch.optim.AdamW, clip_norm: float) -> None:
        self.module: nn.Module = model
        self._optimizer = optimizer
        self._clip_norm = clip_norm
        self._peak_rates = [group["lr"] for group in optimizer.param_groups]

    def step(self, loss: Tensor, lr_factor: float) -> float:
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for p in self.module.parameters() if p.grad is not None]
        for gradient in [p.grad for p in parameters if p.grad is not None] if world_size() > 1 else []:
            dist.all_reduce(gradient)
            gradient /= world_size()
        norm = nn.utils.clip_grad_norm_(parameters, self._clip_norm)
        _set_rates(self._optimizer, self._peak_rates, lr_factor)
        self._optimizer.step()
        return float(norm)

    def save(self, directory: Path) -> None:
        if rank() == 0:
            state = {f"model.{name}": value for name, value in self.module.state_dict().items()}
            for index, slots in self._optimizer.state_dict()["state"].items():
                state |= {f"optimizer.{index}.{slot}": value for slot, value in slots.items()}
            save_file({name: value.contiguous() for name, value in state.items()}, directory / "engine.safetensors")

    def load(self, directory: Path) -> None:
        state = load_file(directory / "engine.safetensors")
        prefix = "model."
        self.module.load_state_dict({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith("optimizer."):
                _, index, slot = name.split(".")
                slots.setdefault(int(index), {})[slot] = value
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": slots})


class DeepSpeedEngine:
    """DeepSpeed with the ZeRO stage of the execution and the precision of the recipe."""

    def __init__(
        self, model: BehaveGPT, optimizer: torch.optim.AdamW, train: TrainConfig, execution: ExecutionConfig
    ) -> None:
        # Without ZeRO and in fp32 DeepSpeed clips, but does not tell the norm: there the clipping is torch's own.
        self._clip_norm = train.clip_norm if execution.zero_stage == 0 and train.precision == "fp32" else None
        deepspeed = _import_deepspeed(execution.use_gpu)
        self._peak_rates = [group["lr"] for group in optimizer.param_groups]
        config = {
            "train_micro_batch_size_per_gpu": 1,  # DeepSpeed only reports with it; the plan sets the batch
            "gradient_accumulation_steps": 1,
            "gradient_clipping": 0.0 if self._clip_norm else train.clip_norm,
            "zero_optimization": {"stage": execution.zero_stage},
            "bf16": {"enabled": train.precision == "bf16"},
            "zero_allow_untested_optimizer": False,
            "steps_per_print": 2**62,
        }
        self._engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        self.module: nn.Module = self._engine
        if self._clip_norm and world_size() == 1:
            # There is nobody to reduce with; copying every gradient there and back is half of a small model's step.
            self._engine.enable_backward_allreduce = False

    def step(self, loss: Tensor, lr_factor: float) -> float:
        self._engine.backward(loss)
        norm = nn.utils.clip_grad_norm_(self._engine.module.parameters(), self._clip_norm) if self._clip_norm else None
        _set_rates(self._engine.optimizer, self._peak_rates, lr_factor)
        self._engine.step()
        return float(self._engine.get_global_grad_norm() if norm is None else norm)

    def save(self, directory: Path) -> None:
        # The version key lets DeepSpeed convert the checkpoint for another number of workers.
        state = {"universal_checkpoint_info": {"universal_checkpoint_version": 0.2}}
        self._engine.save_checkpoint(str(directory), tag=DEEPSPEED_TAG, client_state=state, save_latest=False)

    def load(self, directory: Path) -> None:
        path, _ = self._engine.load_checkpoint(str(directory), tag=DEEPSPEED_TAG)
        if path is None:
            raise RuntimeError(f"{directory}: DeepSpeed found no checkpoint there")


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


def _set_rates(optimizer: torch.optim.Optimizer, peak_rates: list[float], factor: float) -> None:
    for group, rate in zip(optimizer.param_groups, peak_rates, strict=True):
        group["lr"] = rate * factor
