"""Named studies, as plain functions; a variant is `dataclasses.replace` of one."""

from behavegpt.study.config import StudyConfig


def demo() -> StudyConfig:
    """Return the embedded default on generated logs: N from 4.5 k to 237 k, D doubling from 25 k to 800 k targets."""
    return StudyConfig(
        name="demo",
        widths=(12, 16, 24, 40, 64, 96),
        num_events=(25_000, 50_000, 100_000, 200_000, 400_000, 800_000),
    )


def nyc() -> StudyConfig:
    """Return a study of the size of New York's check-ins (Yang et al. 2015): D from 10 k to 65 k scored targets."""
    return StudyConfig(
        name="nyc",
        widths=(16, 32, 64, 96),
        num_events=(10_000, 16_000, 25_000, 40_000, 65_000),
    )
