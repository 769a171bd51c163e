"""What differs for an environment of type `self_hosted`: it has no sandbox here, its own workers run the tools.

It must not know the queue that brings the work to them.
"""

from __future__ import annotations

from collections.abc import Sequence

from hostler.errors import InvalidRequest
from hostler.services.resolve import NOT_YET
from hostler.wire.base import encode, given
from hostler.wire.environments import Config, ConfigParams, Environment, SelfHostedConfig
from hostler.wire.events import ClientEvent, UserToolResultParams
from hostler.wire.resources import MemoryStoreResourceParams, ResourceParams


def config(params: ConfigParams | None, current: Config | None) -> SelfHostedConfig:
    """The config that results of an environment that is, or is to be, self-hosted. Raises InvalidRequest."""
    type_is = "self_hosted" if params is None else params.type
    if current is not None and (type_is != "self_hosted" or not isinstance(current, SelfHostedConfig)):
        raise InvalidRequest(
            "config.type: the type of an environment can't be changed", error_code="invalid_config_type_change"
        )
    for field in ("networking", "packages"):
        if params is not None and given(getattr(params, field)):
            raise InvalidRequest(f"config.{field}: a self_hosted environment has none; its workers bring their own")
    return SelfHostedConfig()


def check_resources(environment: Environment, resources: Sequence[ResourceParams]) -> None:
    """Files and repositories have no sandbox to be mounted in. Raises InvalidRequest."""
    if not isinstance(environment.config, SelfHostedConfig):
        return
    for index, resource in enumerate(resources):
        if isinstance(resource, MemoryStoreResourceParams):
            raise InvalidRequest(f"resources.{index}.type: memory_store is {NOT_YET}")
        raise not_supported(environment.id)


def not_supported(environment_id: str) -> InvalidRequest:
    return InvalidRequest(
        f"Environment {environment_id} is a self-hosted environment. `resources` are not supported with self-hosted "
        "environments.",
        error_code="self_hosted_resources_unsupported_error",
    )


def of_config(config: bytes) -> bool:
    """Whether the environment that a session was created in, as its row has it, is self-hosted."""
    return config == _CONFIG


def wants_worker(events: Sequence[ClientEvent]) -> bool:
    """Whether what a client sent may lead to calls for a worker. What workers themselves send does not ask for another;
    an interrupt does, so that a session whose worker has failed can go on."""
    return any(not isinstance(event, UserToolResultParams) for event in events)


_CONFIG = encode(SelfHostedConfig())
