"""The exceptions that speak to users."""


class UserError(Exception):
    """Bad input: one clear sentence saying what was wrong in which file, what was expected and what to do.

    The command line prints it without a traceback and exits with `exit_code`. Codes: 2 bad input; 3 no whole result
    (`process` placed fewer than half of the photos, or the disk is full: see DiskFull); 130 Ctrl-C, 143 terminated.
    """

    exit_code = 2


class DiskFull(UserError):
    """Good input, but there is no room for the result. What was whole still is; nothing half-written is left."""

    exit_code = 3
