"""What can go wrong, and when.

IdleTimerError
 +-- InvalidEventError     the event can never work: nothing was changed, retrying cannot help
 +-- InvalidSettingsError  the function's environment is wrong: names each variable
 +-- TransientError        try the same event again
      +-- ContendedError       others kept changing the same conversation
      +-- TimerNotArmedError   Scheduler refused to set the timer
      +-- UnavailableError     a service that cleanup needs did not do its part
 +-- DeadlineError         the Lambda's own time is nearly used up (see `deadline`)
 +-- UnguardedError        the deadline cannot be watched here: not the main thread, or no Lambda context

Expected outcomes (still active, lost race, already ended) are return values, not errors. AWS errors that nobody
here can mend propagate to Lambda's retry and on to the failure queue.
"""


class IdleTimerError(Exception):
    """Every error that this package raises on purpose."""


class InvalidEventError(IdleTimerError):
    """The event is malformed: one line that names each field and its problem, never a value."""


class InvalidSettingsError(IdleTimerError):
    """The environment is wrong: one line that names each variable and its problem, never a value."""


class TransientError(IdleTimerError):
    """The same event may well succeed later: Lambda or the caller tries again."""


class ContendedError(TransientError):
    """The conversation changed between each read and write, more often than is plausible."""


class TimerNotArmedError(TransientError):
    """Scheduler was throttled, or kept answering that the schedule is being changed."""


class UnavailableError(TransientError):
    """A session store, topic or function did not do its part of an end."""


class DeadlineError(IdleTimerError):
    """Leaves the guarded block shortly before Lambda would kill the function."""


class UnguardedError(IdleTimerError):
    """The deadline guard was used outside the main thread, or without a Lambda context."""
