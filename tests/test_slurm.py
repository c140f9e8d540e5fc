"""docs/slurm.md: its scripts are bash, and its commands are about experiments and settings that exist."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from helpers import ROOT
from hydra import compose, initialize_config_dir

from dpm.runs.folder import variant

BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/slurm.md").read_text(), re.S)
SWEPT = {"${rates[n % 3]}": "0.01", "${units[n / 3 % 2]}": "8", "$((n / 6))": "1"}


def commands() -> list[str]:
    """What each train.py or array `run=(...)` is told, without Hydra's own settings."""
    found = []
    for block in BLOCKS:
        text = block.replace("\\\n", " ")
        for code, value in SWEPT.items():
            text = text.replace(code, value)
        found += re.findall(r"(?:train\.py|run=\() ?((?:-m )?experiment=[^)\n]*)", text)
    return found


@pytest.mark.parametrize("block", BLOCKS)
def test_scripts_are_bash(block: str, tmp_path: Path) -> None:
    (tmp_path / "script.sh").write_text(block.replace("<this repository>", "dpm.git"))
    done = subprocess.run(["bash", "-n", tmp_path / "script.sh"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_is_about_an_experiment_that_exists() -> None:
    found = commands()
    assert len(found) == 5
    for line in found:
        overrides = [word.split(",")[0] for word in shlex.split(line) if "=" in word and not word.startswith("hydra")]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = compose("train", overrides)
        assert config.name == overrides[0].removeprefix("experiment=")
        assert "device" not in variant(overrides, config)
