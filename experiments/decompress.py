"""Decode a file of compress.py: python experiments/decompress.py digits.dpm digits.npy"""

from pathlib import Path

from hydra import compose, initialize_config_dir

from dpm.runs import app


def main() -> None:
    parser = app.Parser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path, help="an array of grey levels or bits, as numpy.save writes it")
    arguments = parser.parse_args()
    from dpm.runs.coded import decompress, unpacked
    from dpm.runs.folder import Run

    header, _ = unpacked(arguments.file)
    with initialize_config_dir(str(app.CONF), version_base="1.3"):
        config = compose("evaluate", [*header["overrides"], "precision=float32"])
    print(decompress(Run(config, header["overrides"]), arguments.file, arguments.out))


if __name__ == "__main__":
    app.run(main)
