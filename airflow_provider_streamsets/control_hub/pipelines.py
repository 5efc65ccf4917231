"""Pipelines and their versions (contract, section 13)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub._json import JsonReader, as_list
from airflow_provider_streamsets.control_hub._messages import describe_ids
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAmbiguousNameError,
    ControlHubConfigurationError,
    ControlHubNotFoundError,
    ControlHubUnexpectedAnswerError,
)
from airflow_provider_streamsets.control_hub.models import PipelineVersion
from airflow_provider_streamsets.control_hub.paging import chunked, paginate
from airflow_provider_streamsets.control_hub.saql import equals
from airflow_provider_streamsets.control_hub.services import Service, quote_id

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.client import ControlHubClient


class Pipelines:
    """Pipelines; reached as ``client.pipelines``."""

    def __init__(self, client: ControlHubClient) -> None:
        self._client = client

    def find_by_name(self, name: str) -> PipelineVersion:
        """
        Return the latest version, draft or not, of the one pipeline that has exactly this name.

        :param name: full name; names are not unique in Control Hub
        :raises ControlHubNotFoundError: if no pipeline has it
        :raises ControlHubAmbiguousNameError: if several have it; the message names their ids
        """
        found = {found.pipeline_id: found for found in self._named(name)}
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            shown = ", ".join(list(found)[:5]) + (", ..." if len(found) > 5 else "")
            raise ControlHubAmbiguousNameError(
                f"Cannot tell which pipeline is meant by the name '{name}': {len(found)} pipelines have it ({shown}). "
                "Give the pipeline's id."
            )
        raise ControlHubNotFoundError(
            f"Cannot find a pipeline named '{name}': no pipeline has that name. Names are compared letter by letter. "
            "Is the connection set to the right project?"
        )

    def _named(self, name: str) -> Iterator[PipelineVersion]:
        # An empty search would ask for all pipelines; the list with a filter serves names that no search can hold.
        query = equals("name", name)
        path = "/v1/saql/pipelines/search" if query else "/v1/pipelines"
        organization = self._client.organization
        params = (
            {"search": query, "organization": organization, "orgId": organization}
            if query
            else {"filterText": name, "onlyPublished": "false"}
        )

        def read_page(offset: int, length: int) -> Any:
            return self._client.request(
                "GET",
                Service.PIPELINES,
                path,
                action=f"find the pipeline named '{name}'",
                params={**params, "offset": offset, "len": length},
                needs_body=True,
            )

        for entry in paginate(read_page, "pipelines", identity="commitId"):
            pipeline = PipelineVersion.from_wire(entry)
            # Searches compare without regard to case, and what a filter matches is not known (contract, 18.14).
            if pipeline.name == name:
                yield pipeline

    def versions(self, pipeline_id: str) -> list[PipelineVersion]:
        """
        Return the published versions of a pipeline, newest first.

        :param pipeline_id: id of the pipeline
        """
        answer = self._client.request(
            "GET",
            Service.PIPELINES,
            f"/v1/pipeline/{quote_id(pipeline_id)}/log",
            action=f"read the versions of pipeline {pipeline_id}",
            params={"offset": 0, "len": -1, "order": "DESC", "onlyPublished": "true", "withWrapper": "false"},
            needs_body=True,
        )
        entries = answer if isinstance(answer, list) else JsonReader(answer, "versions of a pipeline").array("data")
        versions = [PipelineVersion.from_wire(entry) for entry in entries]
        return sorted((v for v in versions if not v.is_draft), key=lambda version: version.order, reverse=True)

    def latest(self, pipeline_id: str) -> PipelineVersion:
        """
        Return the newest published version of a pipeline.

        :param pipeline_id: id of the pipeline
        :raises ControlHubNotFoundError: if there is none
        """
        answer = self._client.request(
            "GET",
            Service.PIPELINES,
            f"/v1/pipeline/{quote_id(pipeline_id)}/latest",
            action=f"read the newest version of pipeline {pipeline_id}",
            params={"onlyPublished": "true"},
            needs_body=True,
        )
        # An unknown or unpublished pipeline is answered with an object without commit (contract, section 13).
        if not JsonReader(answer, "pipeline").optional_text("commitId"):
            raise ControlHubNotFoundError(
                f"Cannot find a published version of pipeline {pipeline_id}: the pipeline does not exist, or none of "
                "its versions is published."
            )
        return PipelineVersion.from_wire(answer)

    def latest_commits(self, pipeline_ids: Iterable[str]) -> dict[str, PipelineVersion]:
        """
        Return the latest versions of many pipelines, drafts or not, in one request for many.

        :param pipeline_ids: ids of pipelines; those that Control Hub does not know are missing in the answer
        """
        found: dict[str, PipelineVersion] = {}
        for batch in chunked(list(dict.fromkeys(pipeline_ids)), self._client.bulk_size):
            answer = self._client.request(
                "POST",
                Service.PIPELINES,
                "/v1/pipelines/latestCommit",
                action=f"read the newest versions of {describe_ids(batch, 'pipeline')}",
                body=batch,
                needs_body=True,
            )
            for entry in as_list(answer, "latest commits"):
                if entry is not None and JsonReader(entry, "pipeline").optional_text("commitId"):
                    version = PipelineVersion.from_wire(entry)
                    found[version.pipeline_id] = version
        return found

    def commit(self, commit_id: str) -> PipelineVersion:
        """
        Return one version by its commit id.

        :param commit_id: id of the commit
        :raises ControlHubNotFoundError: if there is none
        """
        return PipelineVersion.from_wire(self._read_commit(commit_id))

    def _read_commit(self, commit_id: str) -> Any:
        answer = self._client.request(
            "GET",
            Service.PIPELINES,
            f"/v1/pipelineCommit/{quote_id(commit_id)}",
            action=f"read pipeline commit {commit_id}",
            params={"includeLibraryDefinitions": "false"},
        )
        if not answer:
            raise ControlHubNotFoundError(f"Cannot read pipeline commit {commit_id}: Control Hub knows no such commit.")
        return answer

    def unknown_parameters(self, commit_id: str, names: Iterable[str]) -> dict[str, str | None]:
        """
        Return which names are no runtime parameters of a version, each with the parameter that is most like it, if any.

        :param commit_id: id of the commit
        :param names: names of parameters
        :returns: nothing either if the definition of the pipeline does not list its parameters
        :raises ControlHubNotFoundError: if there is no such version
        """
        read = JsonReader(self._read_commit(commit_id), "pipeline")
        try:
            parameters = _parameters(read.json_object("pipelineDefinition"))
        except ControlHubUnexpectedAnswerError:
            return {}
        if parameters is None:
            return {}
        unknown = [name for name in names if name not in parameters]
        return {name: next(iter(difflib.get_close_matches(name, parameters, n=1)), None) for name in unknown}

    def tags(self, pipeline_id: str) -> dict[str, str]:
        """
        Return the commit ids of a pipeline's tagged versions by tag.

        :param pipeline_id: id of the pipeline
        """
        answer = self._client.request(
            "GET",
            Service.PIPELINES,
            f"/v1/pipeline/{quote_id(pipeline_id)}/tags",
            action=f"read the version tags of pipeline {pipeline_id}",
            needs_body=True,
        )
        read = [JsonReader(entry, "pipeline tag") for entry in as_list(answer, "pipeline tags")]
        return {tag.text("name"): tag.required_text("commitId") for tag in read}

    def version(
        self,
        pipeline_id: str,
        *,
        version: str | int | None = None,
        commit_id: str | None = None,
        tag: str | None = None,
    ) -> PipelineVersion:
        """
        Return one published version of a pipeline: the newest, or the one that is asked for.

        :param pipeline_id: id of the pipeline
        :param version: number of the version, for example ``3`` or ``v3``
        :param commit_id: its commit id, instead
        :param tag: a tag of the version, instead
        :raises ControlHubNotFoundError: if there is no such version; the message names those that there are
        """
        if sum(given is not None for given in (version, commit_id, tag)) > 1:
            raise ControlHubConfigurationError(
                "Give the version of a pipeline by only one of its number, its commit id, and a tag."
            )
        if version is None and commit_id is None and tag is None:
            return self._with_rules(self.latest(pipeline_id))
        versions = self.versions(pipeline_id)
        tags: dict[str, str] = {}
        if version is not None:
            number = str(version).strip()
            wanted = f"version {number}"
            found = next((v for v in versions if v.version == number.removeprefix("v")), None)
        elif commit_id is not None:
            wanted = f"commit {commit_id}"
            found = next((v for v in versions if v.commit_id == commit_id.strip()), None)
        else:
            tags = self.tags(pipeline_id)
            wanted = f"version tagged '{tag}'"
            found = next((v for v in versions if v.commit_id == tags.get(str(tag))), None)
        if found is not None:
            return self._with_rules(found)
        names = ", ".join(f"{v.version} (commit {v.commit_id})" for v in versions[:20]) or "none"
        raise ControlHubNotFoundError(
            f"Pipeline {pipeline_id} has no published {wanted}. Its published versions are: {names}"
            + (", and older ones" if len(versions) > 20 else "")
            + (f". Its tags are: {', '.join(sorted(tags)) or 'none'}" if tag is not None else "")
            + "."
        )

    def _with_rules(self, version: PipelineVersion) -> PipelineVersion:
        """Return a version with the id of its rules, which a list may leave out."""
        if version.rules_id is not None:
            return version
        return replace(version, rules_id=self.commit(version.commit_id).rules_id)


def _parameters(definition: dict[str, Any]) -> list[str] | None:
    """Return the names of the runtime parameters in a definition (contract, 13); None if it does not list them."""
    for entry in JsonReader(definition, "pipeline definition").array("configuration"):
        configuration = JsonReader(entry, "configuration of the pipeline")
        if configuration.get("name") == "constants" and configuration.get("value") is not None:
            return [
                JsonReader(parameter, "parameter").required_text("key") for parameter in configuration.array("value")
            ]
    return None
