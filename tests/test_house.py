"""The house rules that a reader cannot see broken in any one file."""

import ast
import dataclasses
import fnmatch
import graphlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from neural3d.cli.info import read_settings
from neural3d.methods import METHODS, method_class
from neural3d.priors import PRIORS

ROOT = Path(__file__).resolve().parents[1]

# From the foundation up: each line may import from its own and from earlier lines only.
STOREYS = [
    {
        "errors",
        "config",
        "disk",
        "child",
        "lock",
        "plain",
        "processes",
        "progress",
        "shared",
        "checkpoint",
        "_native",
        "_native_cuda",
    },
    {"sfm/worker"},
    {"ops"},
    {"geometry", "images"},
    {"examples"},
    {"fields"},
    {"files"},
    {"shapes"},
    {"scene"},
    {"sfm", "synthetic", "data"},
    {"loading"},
    {"render"},
    {"body"},
    {"losses", "metrics"},
    {"methods", "priors", "body"},
    {"run", "saving"},
    {"meshing", "reconstruct"},
    {"evaluate"},
    {"train"},
    {"batch"},
    {"partition"},
    {"cli", "viewer", "scenes", "convert", "covering", "denoise", "inpaint", "upscale", "sampling"},
    {"__main__"},
]
STOREY_OF = {name: i for i, names in enumerate(STOREYS) for name in names}


def imported_modules(source: str) -> set[str]:
    """The neural3d modules that a file imports anywhere, functions and type checking included, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a module comes from"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "neural3d"}


def room_of(name: str) -> str:
    """The room of a dotted or slashed name below neural3d; COLMAP's worker is one within another."""
    first, second, *_ = [*re.split(r"[./]", name), ""]
    return "sfm/worker" if (first, second) == ("sfm", "worker") else first


def sources() -> list[tuple[str, Path]]:
    """(room, file) of every Python file of the package, except its front door `neural3d/__init__.py`."""
    package = ROOT / "neural3d"
    files = [(room_of(path.relative_to(package).with_suffix("").as_posix()), path) for path in package.rglob("*.py")]
    files += [(folder, path) for folder in ("viewer", "scenes") for path in (ROOT / folder).rglob("*.py")]
    return sorted((room, path) for room, path in files if room != "__init__")


def test_imports_never_run_back():
    for room, path in sources():
        assert room in STOREY_OF, f"neural3d/{room}: give it a storey in this test"
        for module in imported_modules(path.read_text()):
            target = room_of(module.partition(".")[2])
            if target in ("", "__version__"):
                continue
            assert STOREY_OF[target] <= STOREY_OF[room], f"{path.relative_to(ROOT)} ({room}) imports {module}"


def test_no_modules_import_each_other():
    """Within a storey too, and wherever in a module: what goes in circles can only be understood as a whole."""
    package = ROOT / "neural3d"
    files = {
        path: path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in package.rglob("*.py")
    }
    modules = {name.removesuffix(".__init__"): path for path, name in files.items()}
    found = {m: {n if n in modules else n.rpartition(".")[0] for n in imported_modules(p.read_text())} - {m, "neural3d"}
             for m, p in modules.items() if m != "neural3d"}  # fmt: skip
    with pytest.raises(graphlib.CycleError, match="nodes are in a cycle"):
        graphlib.TopologicalSorter(found | {"neural3d.errors": {"neural3d.run"}}).prepare()
    graphlib.TopologicalSorter(found).prepare()


def test_no_method_imports_a_sibling():
    """What several stand on lies below them, or beside them in a module that is no method."""
    modules = {target.partition(":")[0] for target in (METHODS | PRIORS).values()}
    for module in modules:
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        for name in imported_modules(path.read_text()):
            assert not modules & {name, name.rpartition(".")[0]}, f"{module} imports {name}"


def test_the_reader_of_imports_sees_every_form():
    source = "import neural3d.cli\ndef f():\n  from neural3d import train\n  from neural3d.loading import x"
    assert imported_modules(source) == {"neural3d.cli", "neural3d.train", "neural3d.loading.x"}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    """As a dependency or in an extra: what comes along with another package today need not tomorrow."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = names_of(project["dependencies"])
    declared = needed | names_of(x for extra in project["optional-dependencies"].values() for x in extra)
    installed = importlib.metadata.packages_distributions()
    used = set()
    for _, path in sources():
        for package in foreign_packages(path.read_text()) - {"tinycudann"}:  # built from source; its error says how
            names = {distribution(x) for x in installed.get(package, [package])}
            assert names & declared, f"{path.relative_to(ROOT)} imports {package}, which pyproject.toml does not name"
            used |= names
    assert needed <= used


def foreign_packages(source: str) -> set[str]:
    """What a file imports that is neither Python's own nor ours."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"neural3d"}


def names_of(requirements) -> set[str]:
    return {distribution(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}


def distribution(name: str) -> str:
    """A package's name as indices normalise it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("header", sorted((ROOT / "csrc" / "ops").glob("*.h")), ids=lambda path: path.stem)
def test_a_kernel_has_its_five_places(header):
    name = header.stem
    places = [
        f"csrc/ops/{name}.cpp",
        f"csrc/ops/{name}.cu",
        f"csrc/bind/{name}.cpp",
        f"neural3d/ops/{name}.py",
        f"tests/ops/test_{name}.py",
        f"tests/reference/{name}.py",
        f"benchmarks/bench_{name}.py",
    ]
    assert not [place for place in places if not (ROOT / place).exists()]


def run_python(code: str, folder: Path) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_import_is_light(tmp_path):
    """Under 2 s (it takes milliseconds), and what only some commands need is imported only by those."""
    code = """
import sys, time
start = time.perf_counter()
import neural3d
print(time.perf_counter() - start)
from neural3d import load_scene
neural3d.ops
heavy = {"open3d", "pycolmap", "xatlas", "torchmetrics", "lpips", "skimage", "trimesh", "imageio", "tensorboard"}
heavy.add("matplotlib")
print(*sorted(heavy & set(sys.modules)))
"""
    seconds, heavy = run_python(code, tmp_path)
    assert float(seconds) < 2
    assert heavy == ""


def test_describing_does_not_import_what_it_does_not_need(tmp_path):
    """`info METHOD` comes without torch, `info` of a capture without the libraries for meshes, cameras and films."""
    said = run_python(
        "import neural3d.cli, sys\nneural3d.cli.main(['info', 'ngp'])\nprint('torch' in sys.modules)", tmp_path
    )
    assert any("log2_table" in line for line in said) and said[-1] == "False"
    make = (
        "from captures import ring, write_transforms\nwrite_transforms(__import__('pathlib').Path('capture'), ring())"
    )
    run_python(f"import sys\nsys.path.insert(0, {str(ROOT / 'tests')!r})\n{make}", tmp_path)
    code = """
import sys, neural3d.cli
neural3d.cli.main(["info", "capture"])
print(*sorted({"open3d", "pycolmap", "xatlas", "skimage", "trimesh", "imageio_ffmpeg"} & set(sys.modules)))
"""
    said = run_python(code, tmp_path)
    assert any("10 train" in line or "views" in line for line in said) and said[-1] == ""


def test_settings_are_read_from_the_source_as_they_are():
    for name in METHODS | PRIORS:
        config = method_class(name).Config
        rows = {row[0]: row for row in read_settings(name)}
        fields = dataclasses.fields(config)
        assert rows.keys() == {field.name for field in fields}
        for field in fields:
            default = rows[field.name][1]
            assert default == field.default or eval(default) == field.default


def test_openmp_is_told_to_sleep_unless_the_user_says_otherwise(tmp_path):
    code = "import os, neural3d\nprint(os.environ.get('GOMP_SPINCOUNT'), 'torch' in __import__('sys').modules)"
    assert run_python(f"import os\nos.environ.pop('GOMP_SPINCOUNT', 0)\n{code}", tmp_path) == ["5000 False"]
    assert run_python(f"import os\nos.environ['GOMP_SPINCOUNT'] = '7'\n{code}", tmp_path) == ["7 False"]


def test_the_readme_tells_kernel_users_the_truth(tmp_path):
    """The README's example of the kernels runs as it stands."""
    blocks = [block.split("```")[0] for block in (ROOT / "README.md").read_text().split("```python\n")[1:]]
    (example,) = [block for block in blocks if "neural3d.ops" in block]
    assert run_python(example + "print(*rgb.shape)", tmp_path) == ["1000 3"]


def test_readme_lists_every_reader(monkeypatch):
    """Written by tools/readme_tables.py, and not since changed."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    import readme_tables

    text = readme_tables.README.read_text(encoding="utf-8")
    assert readme_tables.captures() in text and readme_tables.with_tables(text) == text


def test_tables_of_results_name_tests_that_are_there():
    """What shows that a format is read, or what a fault comes to, is looked for where the table says."""
    named = 0
    for table in sorted((ROOT / "benchmarks" / "results").glob("f*ts_*.md")):
        for path, _, name in re.findall(r"`(tests/[\w/]+\.py)(::([\w*]+))?`", table.read_text()):
            assert (ROOT / path).is_file(), f"{table.name}: {path}"
            tests = re.findall(r"\ndef (\w+)", (ROOT / path).read_text())
            assert fnmatch.filter(tests, name or "test_*"), f"{table.name}: {path}::{name}"
            named += 1
    assert named > 40
