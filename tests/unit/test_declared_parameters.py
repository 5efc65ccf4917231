"""Parameters are declared once, on the class: template field, check at parse, and checked value after rendering."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_streamsets import params
from airflow_provider_streamsets.job_selector import ControlHubMixin
from airflow_provider_streamsets.operators.base import ControlHubOperator
from airflow_provider_streamsets.params import Parameter
from tests.unit.fakes.task_factory import leaves, make_task


class Base(ControlHubOperator):
    where = Parameter(params.string, first=True)
    seconds = Parameter(params.seconds, zero=True)

    def __init__(self, *, where: str = "here", seconds: Any = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.where = where
        self.seconds = seconds


class Mixin(ControlHubOperator):
    name = Parameter(params.string, at_parse=False)

    def __init__(self, *, name: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name


class Example(Base, Mixin):
    choice = Parameter(params.one_of, ("a", "b"))
    flag = Parameter(params.boolean, optional=True)
    anything = Parameter()
    what = Parameter(first=True)

    def __init__(self, *, choice: str = "a", flag: Any = None, anything: Any = None, what: Any = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.choice = choice
        self.flag = flag
        self.anything = anything
        self.what = what

    def execute(self, context: Any) -> None:
        self.check_parameters()


def example(**arguments: Any) -> Example:
    return Example(task_id="task", **arguments)


def test_template_fields_in_order_of_declaration():
    assert Base.template_fields == ("where", "control_hub_conn_id", "seconds")
    inherited = ("control_hub_conn_id", "name", "seconds")
    assert Example.template_fields == ("where", "what", *inherited, "choice", "flag", "anything")


def test_subclass_keeps_its_own_template_fields():
    class Fewer(Example):
        template_fields = ("more", "choice")

    class Same(Fewer):
        pass

    class More(Fewer):
        added = Parameter()

    assert Fewer.template_fields == Same.template_fields == ("more", "choice")
    assert set(More.template_fields) == {*Example.template_fields, "added", "more"}


@pytest.mark.parametrize("arguments", [{"choice": "c"}, {"flag": "maybe"}, {"seconds": -1}, {"where": ""}])
def test_invalid_value_raises_at_parse(arguments):
    with pytest.raises(ValueError, match=f"'{next(iter(arguments))}' must be"):
        example(**arguments)


def test_values_of_running_task_are_not_checked_at_parse():
    example(choice="{{ x }}", flag="{{ x }}", seconds="{{ x }}", name=7)
    with DAG("dag", schedule=None):

        @task
        def upstream():
            return "a"

        output = upstream()
        made = example(choice=output, seconds=output)
    assert made.upstream_task_ids == {"upstream"}


def test_rendered_value_is_checked_and_converted():
    made = example(choice="{{ c }}", flag="{{ f }}", seconds="{{ s }}", name=7)
    made.render_template_fields({"c": "b", "f": False, "s": 0})
    made.execute({})
    assert (made.choice, made.flag, made.seconds) == ("b", "False", "0")
    found = made.rendered
    assert (found.choice, found.flag, found.seconds, found.name, found.what) == ("b", False, 0.0, "7", 1)


def test_rendered_value_is_not_mistaken_for_given_one():
    made = example(where="{{ x }}")
    made.where = 7
    made.execute({})
    assert made.rendered.where == "7"


def test_invalid_rendered_value_raises_before_execution():
    made = example(choice="{{ c }}", name="{{ n }}")
    made.render_template_fields({"c": "c", "n": "n"})
    with pytest.raises(ValueError, match="'choice' must be one of 'a', 'b', got 'c'"):
        made.execute({})
    with pytest.raises(ValueError, match="'choice' must be one of"):
        _ = made.rendered.choice
    made.check_parameters(Mixin)


def test_unknown_parameter_raises():
    with pytest.raises(AttributeError, match="unknown"):
        _ = example().rendered.unknown
    with pytest.raises(AttributeError, match="'Example' object has no attribute 'choice'"):
        _ = Example.__new__(Example).choice


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies_are_independent(duplicate):
    made = example(choice="{{ c }}", anything=["x"])
    copied = duplicate(made)
    copied.render_template_fields({"c": "b"})
    assert (made.choice, copied.choice, copied.anything) == ("{{ c }}", "b", ["x"])
    assert copied.rendered.choice == "b"


def test_value_is_in_state_of_task():
    assert vars(example(seconds=3))["seconds"] == 3
    assert pickle.dumps(example(seconds=3).__getstate__()["seconds"])


def test_mapped_task_checks_its_values():
    with DAG("dag", schedule=None):
        mapped = Example.partial(task_id="task", choice="b").expand(seconds=[1, -1])
    assert mapped.template_fields == Example.template_fields
    assert mapped.unmap({"seconds": 1}).seconds == 1
    with pytest.raises(ValueError, match="'seconds' must be a number"):
        mapped.unmap({"seconds": -1})


def test_default_args_reach_parameters():
    with DAG("dag", schedule=None, default_args={"choice": "b", "seconds": 0}):
        made = example()
    assert (made.choice, made.seconds) == ("b", 0)


@pytest.mark.parametrize("kind", leaves())
def test_every_template_field_is_declared(kind):
    assert all(isinstance(getattr(kind, name), Parameter) for name in kind.template_fields)


@pytest.mark.parametrize("kind", leaves())
def test_invalid_rendered_value_of_any_parameter_raises_before_request(kind, make_context, monkeypatch):
    def client(_: Any) -> None:
        raise ConnectionError("a request would be sent")

    monkeypatch.setattr(ControlHubMixin, "client", property(client))
    # Any object can be a path.
    unchecked = {"control_hub_conn_id", "from_job_name", "path", "pipeline_name"}
    for name in set(kind.template_fields) - unchecked:
        made = make_task(kind)
        vars(made)[name] = object()
        with pytest.raises(ValueError, match=f"'{name}'"):
            made.execute(make_context())
