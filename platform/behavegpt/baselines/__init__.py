"""Systems to compare with, one file each. Whatever class here satisfies `tasks.system.System` can be named in a job."""

import importlib
import pkgutil

from behavegpt.errors import InputError, did_you_mean
from behavegpt.tasks.system import System


def find_systems() -> dict[str, type[System]]:
    """Return the systems of this package's files by name: those classes that state a `name`."""
    found: dict[str, type[System]] = {}
    for module in pkgutil.iter_modules(__path__):
        members = vars(importlib.import_module(f"{__name__}.{module.name}")).values()
        own = [m for m in members if isinstance(m, type) and m.__module__ == f"{__name__}.{module.name}"]
        found |= {kind.name: kind for kind in own if "name" in vars(kind)}
    return found


def choose_systems(names: tuple[str, ...]) -> list[type[System]]:
    """Return the systems of these names, in their order.

    Raises:
        InputError: Names every one that there is no system of.
    """
    found = find_systems()
    if problems := [
        f"systems has {name!r}; allowed: {', '.join(sorted(found))}.{did_you_mean(name, found)}"
        for name in names
        if name not in found
    ]:
        raise InputError(*problems)
    return [found[name] for name in dict.fromkeys(names)]
