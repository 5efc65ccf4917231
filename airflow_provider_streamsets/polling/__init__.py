"""
Polling shared by all triggers of a triggerer: one status request per interval serves thousands of waits.

Waits, top-down:

- :mod:`.poller`: the poller of a connection collects the jobs that are due, reads their statuses in one request, and
  notifies subscribers.
- :mod:`.subscriptions`: what a wait holds. Decides which statuses the wait is notified of.
- :mod:`.schedule`: when jobs are due, how many fit into a request, and how long to back off.

Watchers of asset events, top-down:

- :mod:`.run_watcher`: one watcher. Creates the event payloads of finished runs.
- :mod:`.run_cursor`: decides which runs have finished since the last event; stored by Airflow.
- :mod:`.watcher_group`: all watchers of a connection. Polls for them together, and loads the reports of finished runs.
- :mod:`.watcher_query`: the requests of such a poll.

Both:

- :mod:`.sender`: sends all requests in threads. Limits their number, pauses after failures, logs outages, and handles
  rejected credentials.
- :mod:`.connections`: reads connections, once for triggers that start together.
"""
