"""Processes that play stories, one for each core: a story is alone in its process meanwhile."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor


def workers() -> ProcessPoolExecutor:
    """Started anew, not forked: the tests' process may have threads of gRPC."""
    return ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))
