"""What a run may cost, as people state it: FLOPs, GPU-hours or money in, training FLOPs out."""

import math
from dataclasses import dataclass

from analysis.text import figures, scientific


@dataclass(frozen=True, slots=True)
class Flops:
    """A budget in training FLOPs."""

    flops: float

    @property
    def words(self) -> str:
        """Return the budget as a report says it."""
        return f"{scientific(self.flops)} FLOPs"


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuHours:
    """A budget in hours of one device."""

    hours: float
    flops_per_second: float
    """What training sustains on one device, not the peak of its data sheet."""

    @property
    def flops(self) -> float:
        """Return the training FLOPs that it buys."""
        return 3600 * self.hours * self.flops_per_second

    @property
    def words(self) -> str:
        """Return the budget as a report says it."""
        return f"{figures(self.hours, 3)} GPU-hours at {scientific(self.flops_per_second)} FLOP/s"


@dataclass(frozen=True, kw_only=True, slots=True)
class Money:
    """A budget in any currency."""

    amount: float
    price_per_gpu_hour: float
    flops_per_second: float
    """What training sustains on one device, not the peak of its data sheet."""

    @property
    def flops(self) -> float:
        """Return the training FLOPs that it buys."""
        hours = self.amount / self.price_per_gpu_hour
        return GpuHours(hours=hours, flops_per_second=self.flops_per_second).flops

    @property
    def words(self) -> str:
        """Return the budget as a report says it."""
        price = figures(self.price_per_gpu_hour, 3)
        return f"{figures(self.amount, 3)} of money, {price} a GPU-hour at {scientific(self.flops_per_second)} FLOP/s"


Budget = Flops | GpuHours | Money


@dataclass(frozen=True, kw_only=True, slots=True)
class Spending:
    """Budgets as a command line takes them."""

    budget: tuple[float, ...] = ()
    """Repeatable: FLOPs to find the best N and D for, such as 1e18; by default four around the table's own compute."""
    gpu_hours: tuple[float, ...] = ()
    """Repeatable: GPU-hours to find the best N and D for; needs --flops-per-second."""
    money: tuple[float, ...] = ()
    """Repeatable: money to find the best N and D for; needs --price-per-gpu-hour and --flops-per-second."""
    flops_per_second: float | None = None
    """What training sustains on one device, not its peak."""
    price_per_gpu_hour: float | None = None
    """In the currency of --money."""

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        problems = []
        for name in ("flops_per_second", "price_per_gpu_hour"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                problems.append(f"--{name.replace('_', '-')} is {value}; it must be positive.")
        for name in ("budget", "gpu_hours", "money"):
            wrong = [value for value in getattr(self, name) if not 0 < value < math.inf]
            problems += [f"--{name.replace('_', '-')} holds {value}; it must be positive." for value in wrong]
        if (self.gpu_hours or self.money) and self.flops_per_second is None:
            problems.append("--gpu-hours and --money need --flops-per-second, what training sustains on one device.")
        if self.money and self.price_per_gpu_hour is None:
            problems.append("--money needs --price-per-gpu-hour.")
        return problems

    def budgets(self) -> tuple[Budget, ...]:
        """Return the budgets of a record without problems; empty for the default."""
        speed, price = self.flops_per_second or math.nan, self.price_per_gpu_hour or math.nan
        return (
            *(Flops(flops) for flops in self.budget),
            *(GpuHours(hours=hours, flops_per_second=speed) for hours in self.gpu_hours),
            *(Money(amount=spent, price_per_gpu_hour=price, flops_per_second=speed) for spent in self.money),
        )
