"""How tests load the plugin of the testing kit, whether or not its entry point is installed."""

from __future__ import annotations

from importlib.metadata import entry_points

MODULE = "airflow_provider_streamsets.testing.plugin"
IS_INSTALLED = any(entry_point.value == MODULE for entry_point in entry_points(group="pytest11"))
# Loaded twice, it would be an error.
PLUGINS = () if IS_INSTALLED else (MODULE,)
OPTIONS = [option for plugin in PLUGINS for option in ("-p", plugin)]
