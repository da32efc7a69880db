"""Runs a command to its end: what goes wrong becomes a sentence on stderr and an exit code.

0: done. 1: the server refused, or could not be reached, or something here failed. 2: wrong usage
(typer sees to it). `onward status` has its own: 1 says that there is an alarm. A bug is not caught:
it ends with its traceback.
"""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn

import typer
from onward_sdk import OnwardError, Refused, Unreachable

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


class Failure(Exception):
    """Something here failed; the message is one sentence with the remedy."""


def run(command: Coroutine[Any, Any, None], failed: int = EXIT_FAILED) -> None:
    """Runs a command. `failed`: the exit code where the server refuses or cannot be reached."""
    try:
        asyncio.run(command)
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter shall not fail on flushing it.
        sys.stdout = None
        raise typer.Exit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except Refused as refused:
        _fail(f"{refused.code}: {refused.message}", failed)
    except Unreachable as unreachable:
        _fail(f"{unreachable}; start it with `onward up`, or name another with --url", failed)
    except (OnwardError, Failure) as error:
        _fail(str(error), failed)


def _fail(sentence: str, code: int) -> NoReturn:
    print(sentence, file=sys.stderr)
    raise typer.Exit(code) from None
