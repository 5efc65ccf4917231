"""Configuration of Sphinx. The package is parsed, not imported: the build needs neither Airflow nor the package."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

project = "airflow-provider-streamsets"
author = "The authors of airflow-provider-streamsets"
copyright = author
release = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "airflow_provider_streamsets/__init__.py").read_text("utf-8"), re.MULTILINE
)[1]

extensions = ["autoapi.extension", "myst_parser", "sphinx_copybutton"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"
# Docstrings have names of parameters in single backticks.
default_role = "code"
maximum_signature_line_length = 88
python_use_unqualified_type_names = True

myst_heading_anchors = 3

autoapi_dirs = [str(ROOT / "airflow_provider_streamsets")]
autoapi_ignore = ["*/sandbox/*"]
# Pages of the reference place the classes themselves.
autoapi_generate_api_docs = False
autoapi_keep_files = False
autoapi_python_class_content = "class"
# A class that Airflow 2 lacks is defined in a branch, which the parser does not resolve.
suppress_warnings = ["autoapi.python_import_resolution"]

# References to documented classes must resolve; those to Airflow, the standard library and undocumented types need not.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!airflow_provider_streamsets\.(assets|hooks|operators|sensors|triggers)\.).*")]

copybutton_prompt_text = "$ "
