"""Write the report: a pure function of the records in `results`, the claims in `registry` and the texts in `pages`.

README.md, a page per experiment and the figures go into the results folder, your own runs into its folder `yours`;
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
    from dpm.report import Report  # here, because --help need not wait for matplotlib
    from dpm.report.rows import terminal
    from dpm.runs import configs

    paths = configs.resolved(config)
    configs.known_keys(paths, {"results", "registry", "pages", "out"})
    report = Report.load(*(Path(paths[key]) for key in ("results", "registry", "pages")))
    print(terminal(report.rows), end="\n\n")
    for path in report.write(Path(paths["out"])):
        print(path)
    print(report.yours.terminal(), end="")


if __name__ == "__main__":
    app.run(main, __doc__)
