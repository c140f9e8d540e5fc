"""The one exception a user can cause: entrypoints print its message in one line and exit with status 2."""


class UserError(Exception):
    """Bad input. The message says what is wrong and what to do about it."""
