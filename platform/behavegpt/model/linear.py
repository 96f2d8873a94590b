"""The linear layer of the model.

In: (..., inputs). Out: (..., outputs).
"""

from torch import Tensor, nn
from torch.nn.functional import linear


class Linear(nn.Linear):
    """x W^T + b; on a CPU b is added to the product.

    There torch writes b into all of the result first, which the product then reads and adds to: two to three hundredths
    of a training step at widths of 64 to 256.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return (..., outputs) for an input (..., inputs)."""
        if not input.is_cpu:
            return super().forward(input)
        return linear(input, self.weight).add_(self.bias)
