"""Becomes another program that dies with its parent: `python up_exec.py PARENT_PID PROGRAM ARG…`.

For etcd, which does not know how to ask for that itself. The flag belongs to the process and
outlives `execv`. It is set here, after the fork, because Python code between fork and exec is not
safe in a parent with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Never returns."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # It died before the flag was set.
    os.execv(program, sys.argv[2:])


if __name__ == "__main__":
    main()
