"""mixrag serve: its options, and the lines it starts with."""

from __future__ import annotations

import logging

from mixrag.cli import stays
from mixrag.cli.app import ENVIRONMENT, app
from mixrag.cli.help import Command
from mixrag.cli.notices import notices
from mixrag.cli.options import Options, takes
from mixrag.cli.show import error_line
from mixrag.config.command_settings import ServerSettings, StoreConfig
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
    stays()
    with notices(logging.INFO if chosen.log_requests else logging.WARNING, error_line):
        run(
            opened(
                chosen,
                lambda store, sharing: options.open(
                    create=store is None and _is_folder(options), store=store, sharing=sharing
                ),
            ),
            chosen,
            security,
            error_line,
        )


def _is_folder(options: Options) -> bool:
    """Whether ``--store`` is a folder, which is made where there is none: documents can be added on the page."""
    from mixrag.corpus.store.location import FOLDER, parse_location

    given = options.made(StoreConfig).store
    several = "," in str(given) or str(given).endswith(".json")  # shards, or a list of them
    return parse_location(given).scheme == FOLDER and not several
