"""The ``restyle`` command, also as ``python -m restyle``."""

import sys


def main() -> None:
    """Read the command line's modules, a tenth of a second's work, and run it."""
    try:
        from restyle.cli import main as run

        run()
    except KeyboardInterrupt:  # before a command has begun; from then on the command line hears it
        sys.exit(130)


if __name__ == "__main__":
    main()
