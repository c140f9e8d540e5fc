"""Write the report: python experiments/report.py [results=FOLDER] [registry=FOLDER] [out=FOLDER]

A pure function of the records in `results` and of the claims in `registry`: no training, no GPU. README.md, a page per
experiment and the figures go into the results folder; report.html and report.pdf, which need pandoc and typst, go into `out`.
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
    configs.known_keys(paths, {"results", "registry", "out"})
    report = Report.load(Path(paths["results"]), Path(paths["registry"]))
    print(terminal(report.rows), end="\n\n")
    for path in report.write(Path(paths["out"])):
        print(path)
    print(report.yours.terminal(), end="")


if __name__ == "__main__":
    app.run(main)
