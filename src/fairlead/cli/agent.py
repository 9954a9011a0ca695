"""`fairlead agent`: run one workload's agent. Imports the agent late, so that other commands start fast."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import click

MAX_CONFIG_BYTES = 4 * 1024 * 1024


@click.command("agent")
@click.option(
    "--config",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The agent's configuration (JSON), as the node supervisor writes it.",
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def agent(path: Path, log_level: str) -> None:
    """Run Envoy and the application of one workload, and hold its keys.

    Exits with the application's status (128 + N if signal N ended it); 1 if the agent itself cannot run, 2 if its
    configuration is wrong. SIGTERM drains; a second one cuts that short. Needs no control plane once it has run.

    \b
    fairlead agent --config agent.json

    Exit status: 0, or that of the application; 1 failed, 2 wrong usage.
    """
    # gRPC reads these when it is loaded: our children are not forked for Python's sake, and its log is not for users.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import uvloop

    from fairlead.agent import memory
    from fairlead.agent.config import ConfigError, read
    from fairlead.agent.proxy import ProxyError
    from fairlead.agent.runtime import Agent

    logging.basicConfig(
        stream=sys.stderr, level=log_level.upper(), format="%(asctime)s %(levelname).1s [%(name)s] %(message)s"
    )

    async def run() -> int:
        return await Agent(config).run()

    memory.one_arena()
    try:
        config = read(path, MAX_CONFIG_BYTES)
        status = uvloop.run(run())
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    except ProxyError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.strerror or error}: {error.filename or path}") from None
    sys.exit(status)
