"""The notebooks are plain Python in jupytext's percent format, and run from the first cell to the last."""

import ast
import os
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


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


@pytest.mark.slow
@every_notebook
def test_runs_without_errors_or_warnings(path):
    notebook = jupytext.read(path)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": ROOT}})
    client.execute(env={**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            warnings = [output.text for output in cell.outputs if output.get("name") == "stderr"]
            assert not warnings, f"{cell.source}\nwrites {warnings}"
            if "plt.show()" in cell.source:
                assert any("image/png" in output.get("data", {}) for output in cell.outputs), f"{cell.source}\nshows no figure"
