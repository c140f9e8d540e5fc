"""The notebooks are plain Python in jupytext's percent format, and run from the first cell to the last.

So do their exercises: as they are handed out each is judged wrong, with the hint that is meant for it, and its solution right.
"""

import ast
import json
import os
from pathlib import Path
from typing import Any

import jupytext
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
PARTS = ["check", "exercise", "solution"]


def exercises(notebook: Any) -> list[tuple[Any, Any, Any]]:
    """The cells of each: what computes the truth, the student's, the solution."""
    tagged = [cell for cell in notebook.cells if "tags" in cell.metadata]
    assert [cell.metadata.tags for cell in tagged] == [[part] for part in PARTS] * (len(tagged) // 3)
    return list(zip(tagged[::3], tagged[1::3], tagged[2::3], strict=True))


def printed(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def statements(cell: Any) -> list[str]:
    return [ast.unparse(statement) for statement in ast.parse(cell.source).body]


def test_there_are_notebooks():
    assert NOTEBOOKS


@every_notebook
def test_is_plain_python_in_percent_format(path):
    notebook = jupytext.read(path)
    assert notebook.metadata.jupytext.text_representation.format_name == "percent"
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            ast.parse(cell.source)  # no magics: ruff reads the file, and test_packaging its imports


@every_notebook
def test_exercises_are_handed_out_without_their_solutions(path):
    found = exercises(jupytext.read(path))
    assert 3 <= len(found) <= 6 if path.stem.startswith("01") else 2 <= len(found) <= 4
    for number, (check, exercise, solution) in enumerate(found, 1):
        assert check.metadata.jupyter.source_hidden
        assert solution.metadata.jupyter.source_hidden
        assert "jupyter" not in exercise.metadata
        (*given, judged), (*solved, asserted) = statements(exercise), statements(solution)
        assert given != solved
        assert judged.startswith(f"exercise_{number}.judge(")
        assert asserted.replace("assert ", "").replace(".right(", ".judge(") == judged  # the same answer, to the same exercise


def is_open(cell: Any) -> bool:
    return any(isinstance(node, ast.Constant) and node.value is ... for node in ast.walk(ast.parse(cell.source)))


@pytest.mark.slow
@every_notebook
def test_runs_without_errors_or_warnings(path):
    notebook = jupytext.read(path)
    numbered = ", ".join(f"exercise_{number}" for number, _ in enumerate(exercises(notebook), 1))
    asked = f"# %%\nimport json\n\nprint(json.dumps([[*exercise.mistakes] for exercise in ({numbered})]))"
    (hints,) = jupytext.reads(asked, fmt="py:percent").cells
    notebook.cells.append(hints)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": ROOT}})
    client.execute(env={**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            warnings = [output.text for output in cell.outputs if output.get("name") == "stderr"]
            assert not warnings, f"{cell.source}\nwrites {warnings}"
            if "plt.show()" in cell.source:
                assert any("image/png" in output.get("data", {}) for output in cell.outputs), f"{cell.source}\nshows no figure"
    for (_, exercise, _), (first, *others) in zip(exercises(notebook), json.loads(printed(hints)), strict=True):
        if is_open(exercise):
            assert printed(exercise) == "not answered yet\n"
        else:
            assert printed(exercise).endswith(f" the truth, as with a known mistake: look at {first}\n")
        assert others  # more than one way to go wrong is known
