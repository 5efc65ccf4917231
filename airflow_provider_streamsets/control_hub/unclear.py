"""After a request whose end is unclear: finding out whether it had its effect."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_streamsets.control_hub.errors import ControlHubError, ControlHubUnavailableError, ends_wait

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient

# Seconds to look for the effect of a request that was accepted, at the most.
PATIENCE = 60.0
_PAUSE = 3.0

_Found = TypeVar("_Found")


def search_time(client: ControlHubClient, error: ControlHubError | None) -> float:
    """
    Return the seconds for which to search for the effect of a request: until no gateway can deliver it any more.

    :param client: the client that has sent it
    :param error: how the request has ended; None if it was accepted
    """
    return PATIENCE if error is None else max(PATIENCE, client.gateway_timeout)


def find_out(
    client: ControlHubClient,
    look: Callable[[], _Found],
    *,
    question: str,
    error: ControlHubError | None = None,
    is_enough: Callable[[_Found], bool] = bool,
    patience: float | Callable[[], float] | None = None,
) -> _Found:
    """
    Look for the effect of a request until it shows. A read that fails for a while is repeated, too.

    :param client: its clock is used
    :param look: returns what there is of the effect
    :param question: what is to be found out, for messages: "Whether job X was created"
    :param error: how the request has ended; None if it was accepted
    :param is_enough: whether what was found is all of it
    :param patience: seconds to look, at the most, or a function that returns them, called when a look was answered:
        only answers hold the time of Control Hub; by default :func:`search_time`
    :returns: what the last look has found
    :raises ControlHubUnavailableError: if the last look fails; ``maybe_executed`` is set
    """
    if patience is None:
        patience = search_time(client, error)
    left = math.nan if callable(patience) else patience
    is_answered = False
    while True:
        look_error: ControlHubError | None = None
        try:
            found = look()
        except ControlHubError as failure:
            look_error = failure
        if callable(patience) and not is_answered and (look_error is None or math.isnan(left)):
            left = patience()
        is_answered = is_answered or look_error is None
        if look_error is not None:
            if left <= 0 or ends_wait(look_error):
                ended = error or look_error
                raise ControlHubUnavailableError(
                    f"{error or 'Control Hub accepted the call.'} {question} could not be found out: {look_error}",
                    http_status=ended.http_status,
                    issues=ended.issues,
                    maybe_executed=True,
                ) from look_error
        elif is_enough(found) or left <= 0:
            return found
        client.sleep(_PAUSE)
        left -= _PAUSE
