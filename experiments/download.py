"""Download a data set: python experiments/download.py {mnist,cifar10} [--folder FOLDER] [--check]

FOLDER is $DPM_DATA, or else `data`. Files that are there and right are kept, what is missing or damaged is fetched (CIFAR-10:
170 MB, MNIST: 12 MB); the paths of all files are printed. Nothing unverified ever lies under the name of a file.
With --check nothing is fetched: exit status 0 if the files are there, 1 and one line if they are not.
"""

import argparse
import signal
import sys
from pathlib import Path

import pooch

from dpm.data import files
from dpm.errors import UserError
from dpm.runs import app


def main() -> None:
    parser = app.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(files.ARCHIVES))
    parser.add_argument("--folder", type=Path, default=files.default_folder())
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.check:
        there = files.available(arguments.name, arguments.folder)
        command = f"python experiments/download.py {arguments.name}"
        sys.exit(0 if there else f"skipped: {arguments.name} is not in {arguments.folder}; `{command}` gets it")
    pooch.get_logger().setLevel("WARNING")
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))  # an exit that cleans up
    try:
        for path in files.download(arguments.name, arguments.folder, progress=sys.stderr.isatty()):
            print(path)
    except UserError as error:
        app.fail(error)
    except KeyboardInterrupt:
        print("stopped; the same command starts the download again", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
