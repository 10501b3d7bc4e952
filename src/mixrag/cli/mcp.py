"""mixrag mcp: the tools and documents of a store for one MCP client, over standard input and output."""

from __future__ import annotations

from mixrag.cli import stays
from mixrag.cli.app import ENVIRONMENT, app
from mixrag.cli.help import Command
from mixrag.cli.options import Options, takes
from mixrag.config.command_settings import ServerSettings
from mixrag.utils.extras import require_extra


@app.command(cls=Command, epilog=ENVIRONMENT)
@takes("mcp")
def mcp(options: Options) -> None:
    """Give a store to an MCP client that starts this command: tools ask, passages, score, decide, diagnose.

    Standard output is the protocol alone. For clients that connect by HTTP: mixrag serve, at /mcp.
    """
    chosen = options.made(ServerSettings)
    require_extra("server", "mixrag mcp")
    import anyio

    from mixrag.server.mcp import run_stdio
    from mixrag.server.serving import opened

    service = opened(chosen, lambda store, sharing: options.open(store=store, sharing=sharing))
    stays()
    try:
        anyio.run(run_stdio, service)
    finally:
        service.close()
