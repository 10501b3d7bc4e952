"""mixrag serve: its options, and the lines it starts with."""

from __future__ import annotations

import logging

from mixrag.cli.app import ENVIRONMENT, app
from mixrag.cli.help import Command
from mixrag.cli.notices import notices
from mixrag.cli.options import Options, takes
from mixrag.cli.show import error_line
from mixrag.config.command_settings import ServerSettings
from mixrag.utils.extras import require_extra


@app.command(cls=Command, epilog=ENVIRONMENT)
@takes("serve")
def serve(options: Options) -> None:
    """Serve a store to browsers and programs: a page, endpoints that clients of OpenAI speak, and MCP."""
    chosen = options.made(ServerSettings)
    require_extra("server", "mixrag serve")
    from mixrag.server.security.policy import policy
    from mixrag.server.serving import opened, run

    security = policy(chosen)
    with notices(logging.INFO if chosen.log_requests else logging.WARNING, error_line):
        run(
            # A first visit needs no other command: documents can be added on the page.
            opened(
                chosen, lambda store, sharing: options.open(create=store is None, store=store, sharing=sharing)
            ),
            chosen,
            security,
            error_line,
        )
