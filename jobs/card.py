"""Make the card of a dataset again: card.html, card.md and card.json in its directory.

    python jobs/card.py --dataset data/checkins

Next: open card.html in a browser; it is one file and loads nothing.
"""

from dataclasses import dataclass
from pathlib import Path

from behavegpt.arguments import parse
from behavegpt.data.card import card_lines, write_card
from behavegpt.data.manifest import read_manifest
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import exit_codes


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Make the card of a dataset again."""

    dataset: Path
    """A directory that jobs/ingest.py or jobs/synthesize.py wrote."""


def main(args: Args) -> None:
    """Write the card, print its lines and the path of the page."""
    page = write_card(args.dataset)
    manifest = read_manifest(args.dataset)
    behaviors = read_vocabulary(args.dataset / manifest.vocabulary_path("behavior"))
    print("\n".join(card_lines(manifest, behaviors)))
    print(f"wrote {page}")


if __name__ == "__main__":
    with exit_codes():
        main(parse(Args))
