"""
Run DAGs with ``dag.test()`` and print their results as JSON. Runs in the environment with the other tools.

Arguments: the file with the DAGs, and a file with the steps of a scripted model, which takes the place of a language
model: lists of the name of a tool and its arguments, and at last the response.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.providers.common.ai.hooks.pydantic_ai import PydanticAIHook
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

tools: list[str] = []
returned: dict[str, Any] = {}


def main(file: str, script: str) -> None:
    """Run all DAGs of a file."""
    steps = json.loads(Path(script).read_text("utf-8"))

    def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        tools[:] = [tool.name for tool in info.function_tools]
        for message in messages:
            parts = message.parts if isinstance(message, ModelRequest) else ()
            returned.update({part.tool_name: part.content for part in parts if isinstance(part, ToolReturnPart)})
        *calls, response = steps
        done = sum(isinstance(message, ModelResponse) for message in messages)
        return ModelResponse([ToolCallPart(*calls[done]) if done < len(calls) else TextPart(response)])

    PydanticAIHook.get_conn = lambda self: FunctionModel(respond)
    bag = DagBag(file)
    runs = {dag_id: dag.test() for dag_id, dag in bag.dags.items()}
    results = {
        task.task_id: task.xcom_pull(task_ids=task.task_id)
        for run in runs.values()
        for task in run.get_task_instances()
    }
    states = {dag_id: run.state.value for dag_id, run in runs.items()}
    found = {"errors": bag.import_errors, "states": states, "results": results, "tools": tools, "returned": returned}
    print("found:", json.dumps(found, default=str))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
