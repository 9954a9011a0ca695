"""The command `fairlead`: a table of commands, each imported only when it is used."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import Any, NamedTuple

import click

from fairlead.cli import ALSO, WORDS

EPILOG = """\b
Exit status: 0 success, 1 refused or failed, 2 wrong usage, 130 interrupted,
141 where who reads the output has gone (`fairlead get vs | head`).
`fairlead run` and `fairlead agent` exit with the status of their application.
"""


_READER_GONE = 141
"""128 + SIGPIPE: what a shell says of other tools whose reader has gone."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class _ReaderGone(Exception):
    """Nobody reads the output any more: no failure, and nothing to say."""


class _Entry(NamedTuple):
    module: str
    attribute: str
    help: str


COMMANDS: dict[str, _Entry] = {
    "affects": _Entry("affects", "affects", "Show which proxies and Envoy resources depend on an object or field."),
    "agent": _Entry("agent", "agent", "Run one workload's agent: identity, Envoy, application."),
    "blame": _Entry("blame", "blame", "Show who last changed each field of an object, when and how."),
    "analyze": _Entry("analyze", "analyze", "Say what is wrong with files, or with a running mesh."),
    "api-resources": _Entry("resources", "api_resources", "List the kinds that the API serves."),
    "apply": _Entry("resources", "apply", "Create or change objects from files."),
    "ca": _Entry("authority", "ca", "Show and rotate the certificate authority."),
    "bug-report": _Entry("bugreport", "bug_report", "Collect what is needed to find out what is wrong."),
    "capture": _Entry("capture", "capture", "Print the rules that capture traffic."),
    "changed": _Entry("changed", "changed", "Show everything that happened of late, on one line of time."),
    "check": _Entry("check", "check", "Check this host, and the mesh that runs."),
    "compile": _Entry("compile", "compile_command", "Compile files to a proxy's Envoy configuration, offline."),
    "completion": _Entry("completion", "completion", "Print a completion script for bash, zsh or fish."),
    "debug": _Entry("debug", "debug", "Look into the running control plane: where its time and memory go."),
    "delete": _Entry("delete", "delete", "Delete objects."),
    "demo": _Entry("demo", "demo", "Bring up a shop in a mesh and show what the mesh does."),
    "diff": _Entry("diff", "diff", "Say what a change would do to proxies, before it is made."),
    "explain": _Entry("explain", "explain", "Explain a kind or field, or where a setting of a proxy comes from."),
    "describe": _Entry("describe", "describe", "Show what applies to an object or workload, and why."),
    "explain-code": _Entry("analyze", "explain_code", "Tell what a code of a finding means."),
    "get": _Entry("resources", "get", "Show objects."),
    "history": _Entry("history", "history", "Show who changed what, and when."),
    "logs": _Entry("node", "logs", "Show the kept logs of a process."),
    "mtls": _Entry("mtls", "mtls", "Show who still calls in plaintext."),
    "node": _Entry("node", "node", "Supervise the Processes of this host."),
    "proxy-config": _Entry("proxyconfig", "proxy_config", "Show what an Envoy runs."),
    "proxy-status": _Entry("proxystatus", "proxy_status", "Show whether each proxy has what it should have."),
    "rollback": _Entry("rollback", "rollback", "Restore objects, or everything, as they were."),
    "run": _Entry("node", "run", "Run one command in the mesh."),
    "scope": _Entry("scope", "scope", "Show what workloads call, and propose Sidecar objects for it."),
    "serve": _Entry("serve", "serve", "Run the control plane."),
    "show": _Entry("history", "show", "Show what one revision changed, and who got it when."),
    "test": _Entry("testing", "test_command", "Check expectations about requests against files, with no mesh running."),
    "token": _Entry("token", "token", "Make join tokens."),
    "up": _Entry("serve", "up", "Run everything on this host: control plane, node and gateway."),
    "validate": _Entry("validate", "validate_command", "Check files as admission does, without a control plane."),
    "why": _Entry("why", "why", "Say what a request meets, hop by hop, and which field decides."),
    "version": _Entry("version", "version", "Show versions."),
}


class _Lazy(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[WORDS] = tuple(args)
        if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            ctx.color = False
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Click would make a failure of it.
            raise _ReaderGone from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(ALSO.get(cmd_name, cmd_name))
        if entry is None:
            return None
        made = getattr(import_module(f"fairlead.cli.{entry.module}"), entry.attribute)
        return made if isinstance(made, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in sorted(COMMANDS.items())])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS and name not in ALSO:
            # difflib is imported only for a word that is no command.
            from fairlead.model.names import nearest

            near = nearest(name, COMMANDS)
            hint = f" Did you mean '{near}'?" if near else " `fairlead --help` lists the commands."
            raise click.UsageError(f"No command '{name}'.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Lazy, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """A service mesh whose operations explain themselves.

    \b
    fairlead demo                  see what it does, on this machine
    fairlead up shop/              run a mesh with the objects in shop/
    fairlead run -p http:8080 -- ./server
                                   put one command into the mesh
    """


def main() -> None:
    """Entry point of the console script."""
    if sys.stdout is None or sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison] - closed by the caller
        # `fairlead ... >&-`: there is nobody to tell, which is no failure.
        sys.stdout, sys.stderr = (one or open(os.devnull, "w") for one in (sys.stdout, sys.stderr))  # noqa: PTH123, SIM115
    try:
        cli.main(prog_name="fairlead", standalone_mode=False)
        sys.stdout.flush()
    except (_ReaderGone, BrokenPipeError):
        # What is left in buffers must not be tried again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(_READER_GONE)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        _tell(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            click.echo(f"Error: the output cannot be written: {error.strerror}", err=True)
            sys.exit(1)
        if os.environ.get("FAIRLEAD_DEBUG"):
            raise
        if isinstance(error, PermissionError) and error.filename:
            # Of files that others made it is no defect that they are not ours to read.
            click.echo(f"Error: {error.filename}: {error.strerror}", err=True)
            sys.exit(1)
        click.echo(f"Error: this is a defect in Fairlead: {type(error).__name__}: {error}", err=True)
        click.echo("Please report it; with FAIRLEAD_DEBUG=1 it shows where it happened.", err=True)
        sys.exit(1)


def _tell(error: click.ClickException) -> None:
    """What is wrong with the command line, as click says it, but broken to the terminal's width."""
    from fairlead.cli.printing import complain

    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        click.echo(context.get_usage(), err=True)
        click.echo(f"Try '{context.command_path} --help' for help.\n", err=True)
    complain(f"Error: {error.format_message()}")


if __name__ == "__main__":
    main()
