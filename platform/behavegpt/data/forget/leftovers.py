"""What a killed run of forget left in a dataset: files that it had prepared, or that it had no time to delete.

In: a dataset directory and its manifest. Out: the files of the dataset's own naming that the manifest does not name.
Those of an earlier state of the dataset hold the forgotten rows; a file of a foreign name is none of ours.
"""

import re
import shutil
from pathlib import Path

from behavegpt.data.manifest import Manifest
from behavegpt.files import fsync
from behavegpt.schema import SPLITS, VOCABULARIES

_OURS = re.compile(
    rf"(?:r\d+/)?(?:(?P<split>{'|'.join(SPLITS)})/part-(?P<index>\d+)|vocab/(?:{'|'.join(VOCABULARIES)}))\.parquet"
)


def find_replaced(directory: Path, manifest: Manifest) -> list[Path]:
    """Return the files of an earlier state of the dataset, which its last change has replaced."""
    known = {shard.path for split in manifest.splits.values() for shard in split.shards}
    known |= {manifest.vocabulary_path(column) for column in VOCABULARIES}
    found = []
    for path in sorted(directory.rglob("*.parquet")):
        name = path.relative_to(directory).as_posix()
        match = _OURS.fullmatch(name)
        if not match or name in known or name.startswith(f"{manifest.next_folder()}/"):
            continue
        if match["split"] is None or int(match["index"]) < len(manifest.splits[match["split"]].shards):
            found.append(path)
    return found


def remove_prepared(directory: Path, manifest: Manifest) -> None:
    """Remove the files that a run prepared and did not come to use; they are not part of the dataset."""
    prepared = directory / manifest.next_folder()
    if prepared.exists():
        shutil.rmtree(prepared)


def remove_replaced(directory: Path, replaced: list[Path]) -> None:
    """Delete files that the manifest no longer names, and the folders of earlier runs that are empty then."""
    for path in replaced:
        path.unlink()
    folders = {path.parent for path in replaced}
    for folder in sorted(folders | {f.parent for f in folders} - {directory}, key=lambda f: -len(f.parts)):
        if re.match(r"r\d+$", folder.relative_to(directory).parts[0]) and not any(folder.iterdir()):
            folder.rmdir()
    for folder in {f if f.exists() else directory for f in folders}:
        fsync(folder)
