"""Write the report: a pure function of the records in `results`, the claims in `registry` and the texts in `pages`.

README.md, a page per experiment and the figures go into the results folder, your own runs into its folder `yours`, the
headlines of what the project ships into README.md;
report.html and report.pdf, which need pandoc and typst, go into `out`.

  python experiments/report.py
  python experiments/report.py out=/tmp
  python experiments/report.py results=FOLDER registry=conf/claims pages=conf/report
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from dpm.runs import app


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")
@app.job
def main(config: DictConfig) -> None:
    from dpm.runs import configs  # here, because --help need not wait for torch, nor a refusal for matplotlib
    from dpm.stored import ROOT, refuse_unwritable

    paths = configs.resolved(config)
    configs.known_keys(paths, {"results", "registry", "pages", "out"})
    out, results = Path(paths["out"]), Path(paths["results"])
    refuse_unwritable(out / "report.html", out / "report.pdf", results / "README.md")

    from dpm.report import Report, headlines
    from dpm.report.rows import terminal

    report = Report.load(results, Path(paths["registry"]), Path(paths["pages"]))
    print(terminal(report.rows), end="\n\n")
    for path in report.write(out):
        print(path)
    if results.resolve() == ROOT / "results":  # what the project ships, and shows first
        print(headlines.write(ROOT / "README.md", report.rows))
    print(report.yours.terminal(), end="")


if __name__ == "__main__":
    app.run(main, __doc__)
