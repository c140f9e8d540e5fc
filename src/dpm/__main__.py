"""`python -m dpm reproduce`, `python -m dpm test`: what `make` calls, for where there is none. Run in the project's folder."""

import argparse

from dpm.runs import app
from dpm.runs.commands import PARTS, reproduce, tests


def main() -> None:
    parser = app.Parser(prog="python -m dpm", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    about = "train, evaluate, write the report, and compare: paper, shipped, yours"
    reproducing = commands.add_parser("reproduce", help=about, description=about)
    reproducing.add_argument("part", nargs="*", help=f"of the study (default: all, then the report): {', '.join(PARTS)}")
    reproducing.add_argument("--results", default="results/yours", help="where measurements are written; default: %(default)s")
    commands.add_parser("test", help="lint, types and the tests that are not slow")
    commands.add_parser("test-all", help="every test, slow ones included")
    arguments: argparse.Namespace = parser.parse_args()
    if arguments.command == "reproduce":
        reproduce(arguments.part, arguments.results)
    else:
        tests(slow=arguments.command == "test-all")


if __name__ == "__main__":
    app.run(main, stopped="the same command goes on from what is saved")
