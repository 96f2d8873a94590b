"""The rules of the house, read from the sources themselves: who may import whom, and what no file may hold."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "platform" / "behavegpt"
STAGES = ("data", "model", "loss", "train", "tasks", "baselines", "study", "bench")
"""In the order of the path of the data; a stage may import itself and those before it."""
SHARED = {"arguments", "config", "schema", "errors", "files", "lease"}
MEETS = {
    "ray": {
        "bench/prediction.py",
        "bench/stream.py",
        "bench/train.py",
        "data/ingest/executor.py",
        "data/stream.py",
        "study/gauges.py",
        "study/alive.py",
        "study/tuner.py",
        "tasks/prediction/pool.py",
        "train/launch.py",
        "train/metrics.py",
    },
    "deepspeed": {"train/engine.py"},
    "flash_attn": {"model/attention.py"},
}
"""The only files that import what is heavy or optional."""
UNPICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def sources(*folders: str) -> list[Path]:
    return [p for folder in folders for p in sorted((ROOT / folder).rglob("*.py"))]


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted name of everything that a file imports, in functions too; `from a import b` gives a.b."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong_way(source: str, imported: str) -> bool:
    """Return whether a file of behavegpt, e.g. 'data/shards.py', must not import the dotted name."""
    top, _, rest = imported.partition(".")
    if top != "behavegpt":
        return top in ("analysis", "jobs")
    if not rest:
        return False
    target = rest.split(".")[0]
    here = source.removesuffix(".py").split("/")[0]
    if target not in STAGES:
        # Shared modules are upstream of everything; anything else is an attribute of the package, or a new stage.
        return target not in SHARED and (PACKAGE / target).exists()
    return here not in STAGES or STAGES.index(target) > STAGES.index(here)


@pytest.mark.parametrize(
    ("source", "imported", "wrong"),
    [
        ("data/shards.py", "behavegpt.model.config.ModelConfig", True),
        ("loss/dro.py", "behavegpt.train.config.TrainConfig", True),
        ("train/loop.py", "behavegpt.study.grid", True),
        ("schema.py", "behavegpt.data.manifest", True),
        ("study/run.py", "analysis.report_study", True),
        ("study/run.py", "behavegpt.data.shards", False),
        ("train/loop.py", "behavegpt.train.config", False),
        ("data/shards.py", "behavegpt.errors.InputError", False),
        ("train/record.py", "behavegpt", False),
    ],
)
def test_the_rule_itself(source, imported, wrong):
    assert wrong_way(source, imported) is wrong


def test_imports_point_upstream():
    files = sources("platform")
    assert {p.relative_to(PACKAGE).parts[0] for p in files} >= {*STAGES, *(f"{name}.py" for name in SHARED)}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(path)
        if wrong_way(path.relative_to(PACKAGE).as_posix(), name)
    ]
    assert wrong == []


def test_analysis_reads_files_and_needs_neither_torch_nor_the_platform():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources("analysis")
        for name in imports(path)
        if name.split(".")[0] in ("torch", "ray", "deepspeed", "flash_attn")
        or (name.split(".")[0] == "behavegpt" and name.split(".")[1] not in ("schema", "errors", "__version__"))
    ]
    assert wrong == []


@pytest.mark.parametrize(("module", "files"), MEETS.items())
def test_heavy_and_optional_modules_are_imported_where_they_are_met(module, files):
    found = {
        p.relative_to(PACKAGE).as_posix()
        for p in sources("platform")
        if module in {n.split(".")[0] for n in imports(p)}
    }
    assert found == files


def test_nothing_reads_a_pickle():
    """DeepSpeed's own checkpoint files are the exception: train/checkpoint.py verifies them first."""
    wrong = []
    for path in sources("platform", "analysis", "jobs"):
        wrong += [f"{path}: imports {n}" for n in imports(path) if n.split(".")[0] in UNPICKLERS or n == "torch.load"]
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
                wrong.append(f"{path}:{node.lineno}: torch.load")
            if isinstance(node, ast.Attribute) and node.attr == "read_pickle":
                wrong.append(f"{path}:{node.lineno}: read_pickle")
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                wrong.append(f"{path}:{node.lineno}: allow_pickle")
    assert wrong == []


def test_platform_is_a_source_root_and_never_a_package():
    assert not (ROOT / "platform" / "__init__.py").exists()
    done = subprocess.run(
        [sys.executable, "-c", "import platform; print(platform.__file__, platform.system())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    file, system = done.stdout.split()
    assert (Path(file).name, system) == ("platform.py", "Linux")
    assert not Path(file).is_relative_to(ROOT / "platform")


def test_importing_analysis_loads_neither_torch_nor_ray():
    code = "import sys, analysis; print(sorted({'torch', 'ray', 'deepspeed'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_every_module_opens_with_a_docstring():
    missing = [str(p) for p in sources("platform", "analysis", "jobs", "tests") if not ast.get_docstring(parse(p))]
    assert missing == []


def test_no_file_is_longer_than_300_lines():
    files = sources("platform", "analysis", "jobs", "tests")
    assert [str(p) for p in files if len(p.read_text(encoding="utf-8").splitlines()) > 300] == []


def test_every_requirement_is_pinned_within_its_range():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # flash-attn is compiled against the CUDA torch of its machine, so the environment that the pins describe has none.
    extras = [r for name, group in project["optional-dependencies"].items() if name != "gpu" for r in group]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert [str(p) for p in pins if [s.operator for s in p.specifier] != ["=="]] == []
    versions = {canonicalize_name(p.name): next(iter(p.specifier)).version for p in pins}
    assert len(versions) == len(pins)
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        assert canonicalize_name(requirement.name) in versions, f"{requirement} has no pin"
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), str(requirement)
