"""Programs that we start, in a folder where another neural3d lies, as in a checkout whose kernels are not built."""

import os
import subprocess
from pathlib import Path

import neural3d
from neural3d.batch.work import PROGRAM
from neural3d.child import PYTHON, environment


def test_a_child_imports_the_neural3d_that_started_it(tmp_path):
    (tmp_path / "neural3d").mkdir()
    (tmp_path / "neural3d" / "__init__.py").write_text("raise ImportError('the wrong one')")
    surroundings = {name: value for name, value in environment().items() if name != "PYTHONSAFEPATH"}
    said = subprocess.run(
        [*PYTHON, "-c", "import neural3d; print(neural3d.__file__)"], cwd=tmp_path, env=surroundings,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(said.stdout.strip()) == Path(neural3d.__file__).resolve()
    assert surroundings["PYTHONPATH"].split(os.pathsep)[0] == str(Path(neural3d.__file__).resolve().parents[1])
    assert PROGRAM[: len(PYTHON)] == PYTHON  # what `batch` starts
