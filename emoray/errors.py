"""How a command can end otherwise than well; the command line turns each into a sentence and an exit status."""


class UserError(Exception):
    """A mistake in a sweep file, the data or the command line; its text is complete and ready to be shown."""


class SweepFailed(Exception):
    """No trial of the sweep has a checkpoint; the text says why the first one failed."""


class Stopped(Exception):
    """The user asked for the end; everything that was done is on disk."""
