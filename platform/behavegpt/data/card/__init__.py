"""The dataset card: what a dataset holds and what was dropped, as lines for the terminal and as a page."""

from behavegpt.data.card.lines import card_lines
from behavegpt.data.card.page import write_card

__all__ = ["card_lines", "write_card"]
