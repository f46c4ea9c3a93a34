"""The one exception that speaks to users."""


class UserError(Exception):
    """Bad input: one clear sentence saying what was wrong in which file, what was expected and what to do.

    The command line prints it without a traceback and exits with code 2. (3 is a result that is no whole one:
    `process` placed fewer than half of the photos.)
    """
