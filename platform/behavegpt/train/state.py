"""The whole state of a training engine, one tensor per parameter and slot: the same files for every engine, ZeRO stage
and number of workers.

In: the model's parameters by name, and how an engine reads and writes the full float32 value of one of them; of one
that does not move there is only the weight. Out:
engine-<rank>.safetensors, to which every rank adds its share of the parameters, and back. This is what DeepSpeed's
universal checkpoint holds (weights, first and second moment of each parameter in float32), written at once instead of
converted from pickles: no conversion before a resume, nothing to unpickle, no padding that depends on the workers.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from behavegpt.model.attention import Backend
from behavegpt.model.config import ModelConfig
from behavegpt.model.transformer import BehaveGPT
from behavegpt.train.checkpoint_manifest import LOOP_NAME
from behavegpt.train.distributed import rank, world_size
from behavegpt.train.lora import restrict
from behavegpt.train.trainable import Trainable

SLOTS = ("weight", "exp_avg", "exp_avg_sq")
"""What is kept of a parameter: its float32 weight and AdamW's two moments."""
STEP = "adamw_step"
PATTERN = "engine-*.safetensors"


class FullState(Protocol):
    """How an engine's state is reached parameter by parameter. Every method is called by all ranks together."""

    def read(self, parameter: nn.Parameter, slot: str) -> Tensor:
        """Return the full float32 value of the slot."""
        ...

    def write(self, parameter: nn.Parameter, values: Mapping[str, Tensor]) -> None:
        """Take over the full float32 value of every slot."""
        ...

    def steps(self) -> float:
        """Return how many steps AdamW has taken."""
        ...

    def prepare(self, steps: float) -> None:
        """Make moments where the optimiser has none yet, and set its steps."""
        ...


class WholeState:
    """Of an optimiser that is whole on every rank: over the model's own parameters, or over float32 copies of them."""

    def __init__(self, optimizer: torch.optim.AdamW, copies: Mapping[nn.Parameter, Tensor] | None = None) -> None:
        self._optimizer = optimizer
        self._copies = copies or {}
        self.prepare(0.0)

    def read(self, parameter: nn.Parameter, slot: str) -> Tensor:
        held = self._copies.get(parameter, parameter)
        return held.detach() if slot == "weight" else self._optimizer.state[held][slot]

    @torch.no_grad()
    def write(self, parameter: nn.Parameter, values: Mapping[str, Tensor]) -> None:
        held = self._copies.get(parameter, parameter)
        for slot in slots_of(parameter)[1:]:
            self._optimizer.state[held][slot].copy_(values[slot])
        held.copy_(values["weight"])
        parameter.copy_(values["weight"])

    def steps(self) -> float:
        return steps_taken(self._optimizer)

    def prepare(self, steps: float) -> None:
        for group in self._optimizer.param_groups:
            make_moments(self._optimizer, group["params"], steps)


def slots_of(parameter: nn.Parameter) -> tuple[str, ...]:
    """Return what is kept of a parameter: a frozen one has no moments."""
    return SLOTS if parameter.requires_grad else SLOTS[:1]


def make_moments(optimizer: torch.optim.AdamW, parameters: list[Tensor], steps: float) -> None:
    """Give AdamW the state that its first step would make for `parameters`, as far as it is missing; set its steps."""
    for parameter in parameters:
        state = optimizer.state[parameter]
        for slot in SLOTS[1:]:
            if slot not in state:
                state[slot] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        state["step"] = torch.tensor(steps, dtype=torch.float32, device=parameter.device)


def steps_taken(optimizer: torch.optim.AdamW) -> float:
    """Return AdamW's steps, which are the same for every parameter."""
    [steps] = {float(state["step"]) for state in optimizer.state.values()}
    return steps


def write_state(directory: Path, parameters: Mapping[str, nn.Parameter], state: FullState) -> None:
    """Write engine-<rank>.safetensors into `directory`; parameters go to the ranks in turn."""
    mine = {STEP: torch.tensor([state.steps()], dtype=torch.float64)}
    for index, (name, parameter) in enumerate(parameters.items()):
        for slot in slots_of(parameter):
            value = state.read(parameter, slot)
            if index % world_size() == rank():
                mine[f"{slot}.{name}"] = value.float().cpu().contiguous()
    save_file(mine, directory / f"engine-{rank():05d}.safetensors")


def read_state(directory: Path, parameters: Mapping[str, nn.Parameter], state: FullState) -> None:
    """Restore what any number of ranks wrote; the caller has checked the files with `state_problem`."""
    files = {path: safe_open(path, framework="pt") for path in sorted(directory.glob(PATTERN))}
    holder = {key: file for file in files.values() for key in file.keys()}  # noqa: SIM118 - no mapping
    state.prepare(float(holder[STEP].get_tensor(STEP)))
    for name, parameter in parameters.items():
        keys = {slot: f"{slot}.{name}" for slot in slots_of(parameter)}
        state.write(parameter, {slot: holder[key].get_tensor(key) for slot, key in keys.items()})


def state_problem(directory: Path, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return why the state files in `directory` do not hold tensors of just these names and shapes, or None."""
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(directory.glob(PATTERN)):
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 - no mapping
                    part = file.get_slice(key)
                    if part.get_dtype() != ("F64" if key == STEP else "F32"):
                        return f"{path.name} has {key} in {part.get_dtype()}"
                    if key in found and key != STEP:
                        return f"{path.name} has {key}, which another file has too"
                    found[key] = tuple(part.get_shape())
        except Exception as error:  # safetensors' own errors share no base class with OSError
            return f"{path.name} is no safetensors file ({type(error).__name__})"
    if found.pop(STEP, None) != (1,):
        return f"no file has {STEP}"
    wrong = sorted({*found.items()} ^ {*shapes.items()})
    return f"its tensors are not this model's: {wrong[0][0]} {wrong[0][1]}" if wrong else None


def loop_problem(directory: Path) -> str | None:
    """Return why the loop's own file in `directory` is none, or None."""
    try:
        tensors = load_file(directory / LOOP_NAME)
    except Exception as error:  # safetensors' own errors share no base class with OSError
        return f"{LOOP_NAME} is no safetensors file ({type(error).__name__})"
    try:
        torch.Generator().set_state(tensors["rng"])
    except (KeyError, TypeError, RuntimeError):
        return f"{LOOP_NAME} has no random state"
    return None


def state_shapes(
    config: ModelConfig,
    module: Callable[[ModelConfig, Backend | None], nn.Module] = BehaveGPT,
    trainable: Trainable | None = None,
) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor in the state files of such a model, without building it."""
    with torch.device("meta"):
        model = module(config, None)
        restrict(model, trainable)
        parameters = dict(model.named_parameters())
    return {f"{slot}.{name}": tuple(p.shape) for name, p in parameters.items() for slot in slots_of(p)}


def parameter_shapes(
    config: ModelConfig, module: Callable[[ModelConfig, Backend | None], nn.Module] = BehaveGPT
) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of the model, without building it."""
    with torch.device("meta"):
        return {name: tuple(parameter.shape) for name, parameter in module(config, None).named_parameters()}
