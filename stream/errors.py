"""Errors of the stream.

StreamError
├── RejectedError     a metric that is set aside; the others of its payload are kept
├── FatalError        nothing that trying again would mend: an operator is needed
├── DatabaseAway      the database could not be reached, or went away in the middle; trying again will do
├── ModelError        a model that is not served
└── StopRequested     the stop signal came while a batch waited for the database
"""

from __future__ import annotations


class StreamError(Exception):
    """Base of the stream's errors."""


class RejectedError(StreamError):
    """A metric that cannot be stored; the message is the reason that stands in the dead-letter table."""


class FatalError(StreamError):
    """The stream cannot go on; the message says what to do."""


class DatabaseAway(StreamError):  # noqa: N818 - a state that passes, not a fault of ours
    """No database for now."""


class ModelError(StreamError):
    """A model that is not served; the message says of which file or version, what was found and what expected."""


class StopRequested(StreamError):  # noqa: N818 - a request, not a fault
    """Stop, with the batch uncommitted: it will come again."""
