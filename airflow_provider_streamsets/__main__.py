"""Run the commands of ``airflow streamsets`` with any version of Airflow."""

from __future__ import annotations

import argparse

from airflow_provider_streamsets.cli.definition import get_commands


def create_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    (group,) = get_commands()
    parser = argparse.ArgumentParser("python -m airflow_provider_streamsets", description=group.help)
    subparsers = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    for command in group.subcommands:
        subparser = subparsers.add_parser(
            command.name, help=command.help, description=command.help, epilog=command.epilog
        )
        for argument in command.args:
            argument.add_to_parser(subparser)
        subparser.set_defaults(func=command.func)
    return parser


def main(arguments: list[str] | None = None) -> None:
    """
    Parse the arguments and run the command.

    :param arguments: arguments of the command line; those of this process by default
    """
    options = create_parser().parse_args(arguments)
    options.func(options)


if __name__ == "__main__":
    main()
