"""Named studies, as plain functions; a variant is `dataclasses.replace` of one."""

from behavegpt.loss.config import Cvar
from behavegpt.study.config import Size, StudyConfig, Variant, of_widths

GPT2 = (
    Size(width=768, depth=12, num_heads=12),
    Size(width=1024, depth=24, num_heads=16),
    Size(width=1280, depth=36, num_heads=20),
    Size(width=1600, depth=48, num_heads=25),
)
"""small, medium, large and XL (Radford et al. 2019)."""


def demo() -> StudyConfig:
    """Return the embedded default on generated logs: N from 4.5 k to 237 k, D from 25 k to 800 k targets."""
    return StudyConfig(
        name="demo",
        sizes=of_widths(12, 16, 24, 40, 64, 96),
        num_events=(25_000, 50_000, 100_000, 200_000, 400_000, 600_000, 800_000),
    )


def nyc() -> StudyConfig:
    """Return a study of the size of New York's check-ins (Yang et al. 2015): D from 10 k to 65 k scored targets."""
    return StudyConfig(
        name="nyc",
        sizes=of_widths(16, 32, 64, 96),
        num_events=(10_000, 16_000, 25_000, 40_000, 65_000),
    )


def paper() -> StudyConfig:
    """Return the study of eq. 5 and Fig. 8 of BehaveGPT (arXiv 2505.17631): three models of 0.4 M to 24 M parameters.

    The paper gives the sizes and D = 1 to 10 N; the shapes are ours, as is the middle size, their geometric mean.
    """
    return StudyConfig(
        name="paper",
        sizes=(Size(width=128), Size(width=256, depth=4), Size(width=576, depth=6)),
        events_per_param=(1, 2, 4, 6, 8, 10),
    )


def paper_fig7a() -> StudyConfig:
    """Return Fig. 7a: the loss over data sizes of 50 M to 600 M, with the robust loss; we take GPT-2 small."""
    return StudyConfig(
        name="paper_fig7a",
        sizes=GPT2[:1],
        num_events=(50_000_000, 100_000_000, 200_000_000, 400_000_000, 600_000_000),
        variants=(Variant(loss=Cvar(eps=0.5)),),
    )


def paper_fig7b() -> StudyConfig:
    """Return Fig. 7b: the loss over model sizes up to GPT-2's, on 600 M events, with the robust loss."""
    return StudyConfig(
        name="paper_fig7b",
        sizes=(*paper().sizes, *GPT2),
        num_events=(600_000_000,),
        variants=(Variant(loss=Cvar(eps=0.5)),),
    )


PRESETS = {preset.__name__: preset for preset in (demo, nyc, paper, paper_fig7a, paper_fig7b)}
