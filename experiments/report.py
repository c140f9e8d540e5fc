"""Write the report: python experiments/report.py [results=FOLDER] [registry=FOLDER] [pages=FOLDER] [out=FOLDER]

A pure function of the records in `results`, the claims in `registry` and the texts in `pages`: no training, no GPU.
README.md, a page per experiment and the figures go into the results folder; report.html and report.pdf, which need pandoc and
typst, go into `out`.
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from dpm.report import Report
from dpm.report.rows import terminal
from dpm.runs import app, configs


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")
@app.job
def main(config: DictConfig) -> None:
    paths = configs.resolved(config)
    configs.known_keys(paths, {"results", "registry", "pages", "out"})
    report = Report.load(*(Path(paths[key]) for key in ("results", "registry", "pages")))
    print(terminal(report.rows), end="\n\n")
    for path in report.write(Path(paths["out"])):
        print(path)
    print(report.yours.terminal(), end="")


if __name__ == "__main__":
    app.run(main)
