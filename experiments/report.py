"""Write the report: a pure function of the records in `results`, the claims in `registry` and the texts in `pages`.

README.md, a page per experiment and the figures go into the results folder, your own runs into its folder `yours`, the
headlines of what the project ships into README.md; report.html and report.pdf, which need pandoc and typst, go into `out`.
The main text is Markdown in conf/report/main.

  python experiments/report.py
  python experiments/report.py author="A. Student" title="What a diffusion model knows" date="May 2027"
  python experiments/report.py latex=true         # report.tex too, with its figures as PDF beside it
  python experiments/report.py figures=svg        # every figure as SVG (or pdf) below figures/, in the letters of LaTeX
  python experiments/report.py results=FOLDER registry=conf/claims pages=conf/report out=/tmp
"""

import os
import sys
from itertools import chain
from pathlib import Path

import hydra
from omegaconf import DictConfig

from dpm.errors import UserError
from dpm.runs import app

KEYS = {"results", "registry", "pages", "out", "title", "author", "date", "latex", "figures"}


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")
@app.job
def main(config: DictConfig) -> None:
    from dpm.runs import configs  # here, because --help need not wait for torch, nor a refusal for matplotlib
    from dpm.stored import ROOT, refuse_unwritable

    given = configs.resolved(config)
    configs.known_keys(given, KEYS)
    out, results = Path(given["out"]), Path(given["results"])
    refuse_unwritable(out / "report.html", out / "report.pdf", results / "README.md")
    if given["figures"] not in (None, "pdf", "svg"):
        raise UserError(f"figures={given['figures']}: either pdf or svg")
    if not isinstance(given["latex"], bool):
        raise UserError(f"latex={given['latex']}: either true or false")

    from dpm.report import Report, headlines
    from dpm.report.convert import Cover
    from dpm.report.rows import terminal

    cover = Cover(*(str(given[key] or "") for key in ("title", "author", "date")))
    report = Report.load(results, Path(given["registry"]), Path(given["pages"]), cover)
    print(terminal(report.rows), end="\n\n")
    written = [report.write(out)]
    written += [report.write_latex(out)] if given["latex"] else []
    written += [report.write_figures(out / "figures", given["figures"])] if given["figures"] else []
    for path in chain(*written):
        print(path)
    if results.resolve() == ROOT / "results":  # what the project ships, and shows first
        print(os.path.relpath(headlines.write(ROOT / "README.md", report.rows)))
    print(report.yours.terminal(), end="")


def as_text(argument: str) -> str:
    """author=A, B is one text, whatever is in it, and not a list for a sweep."""
    key, _, value = argument.partition("=")
    if key not in ("title", "author", "date") or value == "null" or value[:1] in ("'", '"', ""):
        return argument
    return f"{key}=" + '"{}"'.format(value.replace("\\", "\\\\").replace('"', '\\"'))


if __name__ == "__main__":
    sys.argv[1:] = map(as_text, sys.argv[1:])
    app.run(main, __doc__)
