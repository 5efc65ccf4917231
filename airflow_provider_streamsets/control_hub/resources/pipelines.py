"""Pipelines and their versions (contract section 13)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_streamsets.control_hub._json import as_list, as_object
from airflow_provider_streamsets.control_hub._messages import describe_ids, join_truncated
from airflow_provider_streamsets.control_hub.errors import (
    ControlHubAmbiguousNameError,
    ControlHubConfigurationError,
    ControlHubNotFoundError,
    ControlHubUnexpectedResponseError,
)
from airflow_provider_streamsets.control_hub.models import (
    COMMIT_ID_FIELD,
    Page,
    PipelineDefinition,
    PipelineVersion,
    commit_ids_by_tag,
    runtime_parameter_defaults,
)
from airflow_provider_streamsets.control_hub.paging import chunked, page_params, paginate
from airflow_provider_streamsets.control_hub.saql import equals, search_params
from airflow_provider_streamsets.control_hub.services import Service, quote_id

if TYPE_CHECKING:
    from airflow_provider_streamsets.control_hub.session import Session


class Pipelines:
    """Pipelines, available as ``client.pipelines``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find_by_name(self, name: str) -> PipelineVersion:
        """
        Return the latest version, draft or published, of the pipeline with exactly this name.

        :param name: full name; names are not unique in Control Hub
        :raises ControlHubNotFoundError: if no pipeline has the name
        :raises ControlHubAmbiguousNameError: if several have the name; the message lists their ids
        """
        found = {pipeline.pipeline_id: pipeline for pipeline in self._search_by_name(name)}
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise ControlHubAmbiguousNameError(
                f"Cannot find the pipeline named '{name}': {len(found)} pipelines have this name "
                f"({join_truncated(list(found), max_items=5)}). Use the id of the pipeline instead."
            )
        raise ControlHubNotFoundError(
            f"Cannot find the pipeline named '{name}': no pipeline has this name. Names must match exactly, including "
            "case. Check the project of the connection."
        )

    def _search_by_name(self, name: str) -> Iterator[PipelineVersion]:
        # The filtered list serves names that SAQL cannot express; an empty search would return all pipelines.
        query = equals("name", name)
        path = "/v1/saql/pipelines/search" if query else "/v1/pipelines"
        params = (
            search_params(query, self._session.organization)
            if query
            else {"filterText": name, **_published_params(only=False)}
        )

        def read_page(offset: int, length: int) -> Any:
            return self._session.request(
                "GET",
                Service.PIPELINES,
                path,
                action=f"find the pipeline named '{name}'",
                params={**params, **page_params(offset, length)},
                needs_body=True,
            )

        for entry in paginate(read_page, "pipelines", key_field=COMMIT_ID_FIELD):
            pipeline = PipelineVersion.from_wire(entry)
            # The search ignores case, and the matching of the filter is unknown (contract section 18.14).
            if pipeline.name == name:
                yield pipeline

    def versions(self, pipeline_id: str) -> list[PipelineVersion]:
        """
        Return the published versions of a pipeline, newest first.

        :param pipeline_id: id of the pipeline
        """
        response = self._session.request(
            "GET",
            Service.PIPELINES,
            f"/v1/pipeline/{quote_id(pipeline_id)}/log",
            action=f"read the versions of pipeline {pipeline_id}",
            params={**page_params(0, -1, wrapped=False), "order": "DESC", **_published_params(only=True)},
            needs_body=True,
        )
        versions = [PipelineVersion.from_wire(e) for e in Page.from_wire(response, "versions of a pipeline").entries]
        return sorted((v for v in versions if not v.is_draft), key=lambda version: version.order, reverse=True)

    def latest(self, pipeline_id: str) -> PipelineVersion:
        """
        Return the latest published version of a pipeline.

        :param pipeline_id: id of the pipeline
        :raises ControlHubNotFoundError: if the pipeline has no published version
        """
        response = self._session.request(
            "GET",
            Service.PIPELINES,
            f"/v1/pipeline/{quote_id(pipeline_id)}/latest",
            action=f"read the latest version of pipeline {pipeline_id}",
            params=_published_params(only=True),
            needs_body=True,
        )
        # An unknown or unpublished pipeline yields an object without commit id (contract section 13).
        version = PipelineVersion.from_wire_or_none(response)
        if version is None:
            raise ControlHubNotFoundError(
                f"Cannot read the latest version of pipeline {pipeline_id}: the pipeline does not exist or has no "
                "published version."
            )
        return version

    def latest_commits(self, pipeline_ids: Iterable[str]) -> dict[str, PipelineVersion]:
        """
        Return the latest versions of pipelines, draft or published, with one request per batch of ids.

        :param pipeline_ids: ids of pipelines
        :returns: versions by pipeline id; unknown pipelines are missing
        """
        found: dict[str, PipelineVersion] = {}
        for batch in chunked(list(dict.fromkeys(pipeline_ids)), self._session.bulk_size):
            response = self._session.request(
                "POST",
                Service.PIPELINES,
                "/v1/pipelines/latestCommit",
                action=f"read the latest versions of {describe_ids(batch, 'pipeline')}",
                body=batch,
                needs_body=True,
            )
            for entry in as_list(response, "latest commits"):
                version = None if entry is None else PipelineVersion.from_wire_or_none(entry)
                if version is not None:
                    found[version.pipeline_id] = version
        return found

    def commit(self, commit_id: str) -> PipelineVersion:
        """
        Return a version by its commit id.

        :param commit_id: id of the commit
        :raises ControlHubNotFoundError: if the commit does not exist
        """
        return PipelineVersion.from_wire(self._fetch_commit(commit_id))

    def _fetch_commit(self, commit_id: str) -> Any:
        response = self._session.request(
            "GET",
            Service.PIPELINES,
            f"/v1/pipelineCommit/{quote_id(commit_id)}",
            action=f"read pipeline commit {commit_id}",
            params={"includeLibraryDefinitions": "false"},
        )
        if not response:
            raise ControlHubNotFoundError(f"Cannot read pipeline commit {commit_id}: not found.")
        return response

    def definition(self, commit_id: str) -> PipelineDefinition:
        """
        Return the stages and runtime parameters of a version.

        :param commit_id: id of the commit
        :raises ControlHubNotFoundError: if the commit does not exist
        """
        return PipelineDefinition.from_wire(as_object(self._fetch_commit(commit_id), "pipeline"))

    def parameters(self, commit_id: str) -> dict[str, Any] | None:
        """
        Return the runtime parameters of a version, with their default values.

        :param commit_id: id of the commit
        :returns: default values by name; None if the pipeline definition does not list the parameters
        :raises ControlHubNotFoundError: if the commit does not exist
        """
        return runtime_parameter_defaults(as_object(self._fetch_commit(commit_id), "pipeline"))

    def unknown_parameters(self, commit_id: str, names: Iterable[str]) -> dict[str, str | None]:
        """
        Return the names that are not runtime parameters of a version, each with its closest match or None.

        :param commit_id: id of the commit
        :param names: names of parameters
        :returns: closest match by unknown name; empty if the pipeline definition does not list its parameters
        :raises ControlHubNotFoundError: if the commit does not exist
        """
        commit = as_object(self._fetch_commit(commit_id), "pipeline")
        try:
            parameters = runtime_parameter_defaults(commit)
        except ControlHubUnexpectedResponseError:
            return {}
        if parameters is None:
            return {}
        unknown = [name for name in names if name not in parameters]
        return {name: next(iter(difflib.get_close_matches(name, parameters, n=1)), None) for name in unknown}

    def tags(self, pipeline_id: str) -> dict[str, str]:
        """
        Return the commit ids of tagged versions of a pipeline, by tag.

        :param pipeline_id: id of the pipeline
        """
        response = self._session.request(
            "GET",
            Service.PIPELINES,
            f"/v1/pipeline/{quote_id(pipeline_id)}/tags",
            action=f"read the version tags of pipeline {pipeline_id}",
            needs_body=True,
        )
        return commit_ids_by_tag(response)

    def version(
        self,
        pipeline_id: str,
        *,
        version: str | int | None = None,
        commit_id: str | None = None,
        tag: str | None = None,
    ) -> PipelineVersion:
        """
        Return a published version of a pipeline: the selected one, or the latest.

        At most one of `version`, `commit_id` and `tag` can be set.

        :param pipeline_id: id of the pipeline
        :param version: version number, for example ``3`` or ``v3``
        :param commit_id: commit id of the version
        :param tag: tag of the version
        :raises ControlHubNotFoundError: if the version does not exist; the message lists the available ones
        """
        if sum(selector is not None for selector in (version, commit_id, tag)) > 1:
            raise ControlHubConfigurationError(
                "Only one of the version number, the commit id and a tag can select a pipeline version."
            )
        if version is None and commit_id is None and tag is None:
            return self._with_rules_id(self.latest(pipeline_id))
        versions = self.versions(pipeline_id)
        tags: dict[str, str] = {}
        if version is not None:
            number = str(version).strip()
            description = f"version {number}"
            found = next((v for v in versions if v.version == number.removeprefix("v")), None)
        elif commit_id is not None:
            description = f"commit {commit_id}"
            found = next((v for v in versions if v.commit_id == commit_id.strip()), None)
        else:
            tags = self.tags(pipeline_id)
            description = f"version tagged '{tag}'"
            found = next((v for v in versions if v.commit_id == tags.get(str(tag))), None)
        if found is not None:
            return self._with_rules_id(found)
        names = ", ".join(f"{v.version} (commit {v.commit_id})" for v in versions[:20]) or "none"
        raise ControlHubNotFoundError(
            f"Pipeline {pipeline_id} has no published {description}. Published versions: {names}"
            + (", and older ones" if len(versions) > 20 else "")
            + (f". Tags: {', '.join(sorted(tags)) or 'none'}" if tag is not None else "")
            + "."
        )

    def _with_rules_id(self, version: PipelineVersion) -> PipelineVersion:
        """Return a version with the id of its rules, which lists may omit."""
        if version.rules_id is not None:
            return version
        return replace(version, rules_id=self.commit(version.commit_id).rules_id)


def _published_params(*, only: bool) -> dict[str, str]:
    return {"onlyPublished": str(only).lower()}
