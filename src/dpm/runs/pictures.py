"""Sample pictures while training: what `pictures` of an experiment draws at each validation, in the run's folder.

They may cost a tenth of the training between two validations; where they would cost more, at `tier=smoke` for instance, none
are drawn. The cost is counted in looks at the network for one example, of which a training step takes three (forward and
backward) for each example of its batch.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpm.runs import configs
from dpm.runs.folder import Run
from dpm.study.records import write_atomically

SHARE = 0.1
OF_A_STEP = 3

Draw = Callable[[Any, int], Path | None]


def drawer(run: Run, data: Any) -> Draw:
    """(averaged process, step) -> samples/step-<step>.png in the run's folder, or nothing where none is to be drawn."""
    preview = configs.build(run.config, "pictures") if run.config["pictures"] else None
    if preview is None or preview.looks > SHARE * OF_A_STEP * run.plan.batch_size * run.plan.validate_every:
        return lambda reverse, step: None
    x_0 = data.validation(2).to(run.config["device"])

    def draw(reverse: Any, step: int) -> Path:
        from dpm.figures import images, points, render  # here, because matplotlib takes a second

        arrays = preview(reverse.eval(), data, x_0, run.seed).arrays
        path = run.folder / "samples" / f"step-{step:09d}.png"
        write_atomically(path, render((images.grid if arrays["samples"].ndim == 4 else points.samples)(arrays)))
        return path

    return draw
