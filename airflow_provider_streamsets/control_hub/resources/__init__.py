"""The resources of the REST API, each with the methods for its endpoints."""
