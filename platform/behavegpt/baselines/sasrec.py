"""SASRec (Kang & McAuley, ICDM 2018): self-attention over the history, scored by dot products with class vectors.

The model and its native loss, in BehaveGPT's loop, data and budget. What differs from the publication is what makes the
rows comparable: an input is all four features of an event, as for BehaveGPT (there: an item), classes have vectors of
their own (there: the items'), and optimiser and schedule are the recipe's, so one pass over the data (there: Adam over
epochs until early stop). Two rows: `sasrec` with the full softmax, `sasrec-bce` with the published loss, one sampled
negative a target.

Legend: B windows, I inputs of a window, D width, V classes.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, logsigmoid, relu

from behavegpt.loss.nll import IGNORED_CLASS, token_losses
from behavegpt.model.attention import Backend, causal_attention
from behavegpt.model.config import ModelConfig
from behavegpt.model.sizing import Flops, ParamCounts
from behavegpt.schema import NUM_INPUTS
from behavegpt.tasks.models import TrainedSystem
from behavegpt.train.config import TrunkJob
from behavegpt.train.family import Family
from behavegpt.train.robust import TrainingLoss

NUM_HEADS = 1
"""The publication's choice; its depth of 2 is the default of the jobs."""


class SasrecBlock(nn.Module):
    """x = n(x) + attention(n(x), x, x), then x = m(x) + feed_forward(m(x)): queries are normed, keys and values not."""

    def __init__(self, config: ModelConfig, backend: Backend) -> None:
        super().__init__()
        width = config.width
        self.backend: Backend = backend
        self.dropout = config.dropout
        self.query_norm = nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.feed_forward_norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x_BID: Tensor) -> Tensor:
        """Return the stream (B, I, D)."""
        rate = self.dropout if self.training else 0.0
        normed_BID = self.query_norm(x_BID)
        read = (self.query(normed_BID), self.key(x_BID), self.value(x_BID))
        q_BIHK, k_BIHK, v_BIHK = (part_BID.unflatten(-1, (NUM_HEADS, -1)) for part_BID in read)
        x_BID = normed_BID + causal_attention(q_BIHK, k_BIHK, v_BIHK, self.backend, rate).flatten(2)
        normed_BID = self.feed_forward_norm(x_BID)
        update_BID = self.output(dropout(relu(self.hidden(normed_BID)), rate))
        return normed_BID + dropout(update_BID, rate)


class SasrecModel(nn.Module):
    """Concatenated embeddings projected to the width, positions, blocks, final norm, dot products with V vectors."""

    def __init__(self, config: ModelConfig, backend: Backend | None = None) -> None:
        super().__init__()
        width = config.width
        tables = {name: nn.Embedding(size, width) for name, size in config.table_sizes.items()}
        self.embeddings = nn.ModuleDict(tables)
        self.project = nn.Linear(len(tables) * width, width, bias=False)
        self.positions = nn.Parameter(torch.zeros(config.num_positions, width))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(SasrecBlock(config, backend or "sdpa") for _ in range(config.depth))
        self.final_norm = nn.LayerNorm(width)
        self.classes = nn.Linear(width, config.num_classes, bias=False)

    def forward(self, weekday: Tensor, slot: Tensor, location: Tensor, event: Tensor) -> Tensor:
        """Return logits (B, I, V) for id tensors (B, I)."""
        ids = zip(self.embeddings.values(), (weekday, slot, location, event), strict=True)
        x_BID = self.project(torch.cat([table(ids_BI) for table, ids_BI in ids], dim=-1))
        x_BID = self.dropout(x_BID + self.positions[: x_BID.shape[1]])
        for block in self.blocks:
            x_BID = block(x_BID)
        return self.classes(self.final_norm(x_BID))


@torch.no_grad()
def initialise_sasrec(model: SasrecModel, seed: int) -> None:
    """Draw every parameter from `seed` alone: Xavier's normal for matrices, N(0, 1 / D) for tables, positions 0."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, 0.0, module.embedding_dim**-0.5, generator=generator)
        elif isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
            module.bias.zero_()
    model.positions.zero_()


class FullSoftmax(TrainingLoss):
    """Cross-entropy over all classes, whatever loss the job names for BehaveGPT."""


class SampledBinary(TrainingLoss):
    """The published loss: -log s(z_target) - log(1 - s(z_negative)), one class that is not the target drawn a target.

    The negative is uniform over the other classes; the publication leaves out all items of the user, which is nearly
    every behaviour here. It is drawn from torch's CPU generator, which checkpoints keep.
    """

    def __call__(self, logits_BIV: Tensor, targets_BI: Tensor, step: int) -> tuple[Tensor, Tensor]:
        plain_BI = token_losses(logits_BIV.detach(), targets_BI)
        positive_BI = targets_BI.clamp(min=0)
        other_BI = torch.randint(logits_BIV.shape[-1] - 1, targets_BI.shape).to(targets_BI.device)
        negative_BI = other_BI + (other_BI >= positive_BI)
        pair_BI2 = logits_BIV.float().gather(-1, torch.stack([positive_BI, negative_BI], dim=-1))
        losses_BI = -logsigmoid(pair_BI2[..., 0]) - logsigmoid(-pair_BI2[..., 1])
        return plain_BI, torch.where(targets_BI == IGNORED_CLASS, 0.0, losses_BI)


def count_sasrec(config: ModelConfig) -> ParamCounts:
    """Return the parameters of `SasrecModel(config)`; N counts the projection of the inputs with the blocks.

    A block has 5 D^2 matrix weights, 5 D biases and two norms of 2 D.
    """
    width, depth = config.width, config.depth
    matrices = 4 * width**2 + depth * 5 * width**2
    return ParamCounts(
        **{name: rows * width for name, rows in config.table_sizes.items()},
        positions=config.num_positions * width,
        blocks=matrices + depth * 9 * width,
        final_norm=2 * width,
        head=width * config.num_classes,
        matmul=matrices + width * config.num_classes,
    )


def sasrec_flops(config: ModelConfig) -> Flops:
    """Return the FLOPs of a window, by the conventions of `sizing.flops_per_window`."""
    width, depth, length = config.width, config.depth, NUM_INPUTS
    return Flops(
        length=length,
        projections=2 * length * (4 + 3 * depth) * width**2,
        attention=depth * 2 * 2 * length**2 * width,
        feed_forward=depth * 2 * length * 2 * width**2,
        head=2 * length * width * config.num_classes,
    )


def _full_softmax(job: TrunkJob, device: torch.device) -> TrainingLoss:
    return FullSoftmax()


def _sampled_binary(job: TrunkJob, device: torch.device) -> TrainingLoss:
    return SampledBinary()


SASREC = Family(
    module=SasrecModel,
    initialise=initialise_sasrec,
    loss=_full_softmax,
    count_params=count_sasrec,
    flops_per_window=sasrec_flops,
)


class Sasrec(TrainedSystem):
    """With the full softmax: the fair row."""

    name = "sasrec"
    family = SASREC

    def shape(self, config: ModelConfig) -> ModelConfig:
        """Return the model's shape at the width and depth of `config`."""
        return replace(config, num_heads=NUM_HEADS)


class SasrecBce(Sasrec):
    """With the published loss."""

    name = "sasrec-bce"
    family = replace(SASREC, loss=_sampled_binary)
