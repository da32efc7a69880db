"""`onward history`: what a subject's log holds, by plain HTTP."""

from typing import Annotated

import typer
from onward_sdk import Api

from services.cli import options
from services.cli.outcome import run
from services.cli.output import People, message_fields, print_json

LIMIT_DEFAULT = 100
PAGE_MAX = 1_000  # what the server gives at most in one answer


def history(
    subject: Annotated[str, typer.Argument(help="For example /chat/1.")],
    after: Annotated[int, typer.Option("--after", min=0, help="Begin after this number.")] = 0,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="How many messages at most.")
    ] = LIMIT_DEFAULT,
    user: options.User = "",
    url: options.Url = options.DEFAULT_URL,
    token: options.Token = "",
    json: options.Json = False,
) -> None:
    """Print messages that are kept, oldest first."""

    async def read() -> None:
        people = People()
        position, missing = after, limit
        async with Api(url, user=user, token=token) as api:
            while missing:
                page = await api.history(subject, position, min(missing, PAGE_MAX))
                for message in page.messages:
                    if json:
                        print_json(message_fields(message))
                    else:
                        people.message(message, show_subject=False)
                if not page.messages or page.messages[-1].seq >= page.head:
                    return
                position = page.messages[-1].seq
                missing -= len(page.messages)

    run(read())
