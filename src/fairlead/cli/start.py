"""Entry point of the console script: a shell that asks for names is answered before anything else is imported."""

from __future__ import annotations

import os


def main() -> None:
    """Complete a name of the mesh if a shell asks for one; anything else is the command line's."""
    if "_FAIRLEAD_COMPLETE" in os.environ:
        from fairlead.cli.completing import completed

        if completed(dict(os.environ)):
            return
    from fairlead.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    main()
