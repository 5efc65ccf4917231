"""How tests load the plugin of the testing kit, whether or not its entry point is installed."""

from __future__ import annotations

from importlib.metadata import distributions

MODULE = "airflow_provider_streamsets.testing.plugin"
# Like pytest, in all metadata: that of an older build in the working directory would hide that of the installation.
IS_INSTALLED = any(
    entry_point.group == "pytest11" and entry_point.value == MODULE
    for distribution in distributions()
    for entry_point in distribution.entry_points
)
# Loaded twice, it would be an error.
PLUGINS = () if IS_INSTALLED else (MODULE,)
OPTIONS = [option for plugin in PLUGINS for option in ("-p", plugin)]
