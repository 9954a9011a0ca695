"""`fairlead completion`: scripts for shells."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script.

    It completes commands, options and files, and what the running mesh has: kinds, objects, namespaces, proxies,
    revisions, URLs to ask `why` about. Where no mesh runs it offers nothing, and never waits longer than a second.

    \b
    fairlead completion bash \\
        > ~/.local/share/bash-completion/completions/fairlead
    fairlead completion zsh > "${fpath[1]}/_fairlead"
    fairlead completion fish > ~/.config/fish/completions/fairlead.fish

    Exit status: 0 done, 2 wrong usage.
    """
    from fairlead.cli.main import cli

    made = get_completion_class(shell)
    if made is None:
        raise click.ClickException(f"no completion for {shell}")
    click.echo(made(cli, {}, "fairlead", "_FAIRLEAD_COMPLETE").source())
