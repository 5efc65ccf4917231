"""Models of request bodies: what they have in common, and the types of their fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import models_json_schema

from airflow_provider_streamsets.sandbox.backend.exceptions import bad_request
from airflow_provider_streamsets.sandbox.backend.payload import MAX_INT32
from airflow_provider_streamsets.sandbox.openapi import Json, schema_of


class Body(BaseModel):
    """A request body or a part of one."""

    model_config = ConfigDict(strict=True, alias_generator=to_camel)

    label: ClassVar[str] = ""
    """Name of the body in error messages."""
    problem: ClassVar[str] = ""
    """Error message for a body of another type; by default, that it must be an object."""


BodyType = TypeVar("BodyType", bound=Body)


def check_body(model: type[BodyType], value: Any, label: str = "") -> BodyType:
    """
    Check a body.

    :param model: the model of the body.
    :param value: the body.
    :param label: replaces the label of the model.
    :raises ApiError: with the first problem.
    """
    label = label or model.label
    try:
        return model.model_validate(value, context=label)
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["type"] == "missing" and not model.problem:
            raise bad_request(f"'{problem['loc'][-1]}' of {label} is missing.") from None
        raise bad_request(model.problem or f"{label} must be a JSON object.") from None


def must(requirement: str, holds: Callable[[Any], bool] = lambda value: True) -> WrapValidator:
    """
    Return a validator with an error message in the words of Control Hub.

    :param requirement: what a value must be.
    :param holds: a condition in addition to the type.
    """

    def check(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        try:
            result = handler(value)
        except ValidationError:
            raise _invalid(info, requirement, value) from None
        if not holds(result):
            raise _invalid(info, requirement, value)
        return result

    return WrapValidator(check)


def _invalid(info: ValidationInfo, requirement: str, value: Any) -> Exception:
    name = to_camel(info.field_name or "")
    return bad_request(f"'{name}' of {info.context} must be {requirement}, got {json.dumps(value)[:100]}.")


def _present(value: Any, info: ValidationInfo) -> Any:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise bad_request(f"'{to_camel(info.field_name or '')}' of {info.context} is missing.")
    return value


def component(name: str) -> WithJsonSchema:
    """Return the annotation of a string that has a schema of its own in the OpenAPI document."""
    # Not a reference: pydantic rejects references to schemas that it does not generate.
    return WithJsonSchema({"x-component": name})


def nested(model: type[BodyType]) -> BeforeValidator:
    """Return a validator that names a part of a body in error messages."""

    def check(value: Any, info: ValidationInfo) -> BodyType:
        return check_body(model, value, model.label or f"{to_camel(info.field_name or '')} of {info.context}")

    return BeforeValidator(check)


String = Annotated[str, must("a string")]
RequiredString = Annotated[str, Field(pattern=r"\S"), must("a string"), BeforeValidator(_present)]
Strings = Annotated[list[Annotated[str, Field(min_length=1)]], must("a list of non-empty strings")]
Boolean = Annotated[bool, must("true or false")]
FromMinusOne = Annotated[int, Field(ge=-1, le=MAX_INT32), must(f"an integer from -1 to {MAX_INT32}")]
FromZero = Annotated[int, Field(ge=0, le=MAX_INT32), must(f"an integer from 0 to {MAX_INT32}")]
FromOne = Annotated[int, Field(ge=1, le=MAX_INT32), must(f"an integer from 1 to {MAX_INT32}")]


def body_schemas(models: Iterable[type[Body]]) -> dict[str, Json]:
    """
    Return the schemas of bodies and their parts, for the OpenAPI document.

    :param models: the models of the bodies.
    """
    inputs: list[tuple[type[BaseModel], Literal["validation"]]] = [(model, "validation") for model in models]
    _, document = models_json_schema(inputs, ref_template="#/components/schemas/{model}")
    schemas: dict[str, Json] = _simplified(document["$defs"])
    return schemas


def _simplified(schema: Any) -> Any:
    """Return a schema with references to named strings, and without titles and null defaults."""
    if isinstance(schema, list):
        return [_simplified(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "x-component" in schema:
        return schema_of(schema["x-component"])
    return {
        key: _simplified(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }
