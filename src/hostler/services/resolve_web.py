"""Resolves the fields of `web_fetch` and `web_search` configs, and refuses what the contract refuses, in its words.

It must not read or write anything: it works on the request alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from hostler.errors import InvalidRequest
from hostler.web.domains import BadDomain, check, covered, host_of
from hostler.wire.base import UNSET, Unset
from hostler.wire.environments import LimitedNetwork
from hostler.wire.tools import (
    AgentToolset,
    BuiltinConfig,
    BuiltinConfigParams,
    CustomTool,
    Tool,
    UrlSourceAll,
    UrlSourceExcept,
    UrlSourceNone,
    UrlSourceOnly,
    UrlSources,
    UrlSourcesParams,
    UserLocation,
)

WEB_TOOLS = ("web_fetch", "web_search")
MAX_DOMAINS = 64
_OF = {
    "allowed_domains": WEB_TOOLS,
    "blocked_domains": WEB_TOOLS,
    "max_content_tokens": ("web_fetch",),
    "url_sources": ("web_fetch",),
    "user_location": ("web_search",),
}
_SHORT = {"all": UrlSourceAll(), "none": UrlSourceNone()}
# ISO 3166-1, each followed by a space.
_COUNTRIES = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY "
    "BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK "
    "FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR "
    "IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK "
    "ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM "
    "PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF "
    "TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW "
)


def web_fields(params: BuiltinConfigParams, at: str) -> dict[str, Any]:
    """The fields of the resolved config that only web tools have. Refuses, by name, those that this tool hasn't."""
    for field, tools in _OF.items():
        sent = getattr(params, field)
        if sent is not UNSET and sent is not None and params.name not in tools:
            raise InvalidRequest(f"{at}.{field}: Extra inputs are not permitted")
    if params.name not in WEB_TOOLS:
        return {}
    if isinstance(params.allowed_domains, list) and isinstance(params.blocked_domains, list):
        raise InvalidRequest(f"{at}: Only one of allowed_domains or blocked_domains may be set.")
    fields: dict[str, Any] = {
        "allowed_domains": _domains(params, "allowed_domains", at),
        "blocked_domains": _domains(params, "blocked_domains", at),
        "max_content_tokens": UNSET if params.max_content_tokens is None else params.max_content_tokens,
        "user_location": _location(params.user_location, f"{at}.user_location"),
    }
    if params.name == "web_fetch":
        fields["url_sources"] = _sources(params.url_sources, f"{at}.url_sources")
    return fields


def _domains(params: BuiltinConfigParams, field: str, at: str) -> list[str] | Unset:
    domains = getattr(params, field)
    if not isinstance(domains, list):
        return UNSET
    if not domains:
        raise InvalidRequest(f"{at}.{field}: Empty list of domains is ambiguous. Provide at least one domain or null.")
    if len(domains) > MAX_DOMAINS:
        raise InvalidRequest(f"{at}.{field}: at most {MAX_DOMAINS} domains are allowed, there are {len(domains)}")
    for index, domain in enumerate(domains):
        try:
            check(domain, paths=params.name == "web_search")
        except BadDomain as problem:
            raise InvalidRequest(f"{at}.{field}.{index}: {problem}") from None
    return domains


def _sources(params: UrlSourcesParams | Unset | None, at: str) -> UrlSources | None:
    if not isinstance(params, UrlSourcesParams):
        return None
    sources = UrlSources(
        client_tool_results=_source(params.client_tool_results),
        server_tool_results=_source(params.server_tool_results),
        user_input=_source(params.user_input),
    )
    if all(isinstance(getattr(sources, field), UrlSourceNone) for field in sources.__struct_fields__):
        raise InvalidRequest(f"{at}: At least one source must not be none; set enabled to false to turn the tool off.")
    if isinstance(sources.server_tool_results, UrlSourceOnly | UrlSourceExcept):
        for index, tool in enumerate(sources.server_tool_results.tools):
            if tool.name not in WEB_TOOLS:
                place = f"{at}.server_tool_results.tools.{index}.name"
                raise InvalidRequest(f"{place}: Input should be 'web_search' or 'web_fetch'")
    return sources


def _source(sent: Any) -> Any:
    """The object form; None for what was not set."""
    if isinstance(sent, str):
        return _SHORT[sent]
    return None if isinstance(sent, Unset) else sent


def _location(location: UserLocation | Unset | None, at: str) -> UserLocation | Unset:
    if not isinstance(location, UserLocation):
        return UNSET
    given = {name: getattr(location, name) for name in location.__struct_fields__}
    kept = {name: value for name, value in given.items() if isinstance(value, str)}
    if (country := kept.get("country")) is not None and not _is_country(country):
        raise InvalidRequest(f"{at}.country: not a country the search provider supports")
    if (zone := kept.get("timezone")) is not None and not _is_zone(zone):
        raise InvalidRequest(f"{at}.timezone: not an IANA time zone, such as America/Los_Angeles")
    return UserLocation(**kept)


def _is_country(code: str) -> bool:
    return len(code) == 2 and code.isalpha() and f"{code} " in _COUNTRIES


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _is_zone(name: str) -> bool:
    return name in _zones() or not _zones()  # a machine without a time zone database can't tell


def check_references(tools: Iterable[Tool], within: str = "") -> None:
    """Refuse url_sources that name a client tool which is no custom tool of the same list."""
    tools = list(tools)
    custom = {tool.name for tool in tools if isinstance(tool, CustomTool)}
    for number, tool in enumerate(tools):
        for index, config in enumerate(tool.configs if isinstance(tool, AgentToolset) else ()):
            sources = config.url_sources
            listed = sources.client_tool_results if isinstance(sources, UrlSources) else None
            named = listed.tools if isinstance(listed, UrlSourceOnly | UrlSourceExcept) else ()
            for place, reference in enumerate(named):
                if reference.name not in custom:
                    at = f"{within}tools.{number}.configs.{index}.url_sources.client_tool_results.tools.{place}.name"
                    raise InvalidRequest(f"{at}: {reference.name} is not a custom tool of this agent")


def check_confined(tools: Iterable[Tool], network: LimitedNetwork, within: str) -> None:
    """Refuse allowed domains that lie outside the hosts of a limited environment: they could never be reached."""
    hosts = network.allowed_hosts
    for number, tool in enumerate(tools):
        for index, entry in enumerate(tool.configs if isinstance(tool, AgentToolset) else ()):
            _check_entry(entry, hosts, f"{within}tools.{number}.configs.{index}")


def _check_entry(config: BuiltinConfig, hosts: list[str], at: str) -> None:
    if not config.enabled or not isinstance(config.allowed_domains, list):
        return
    for index, domain in enumerate(config.allowed_domains):
        if not covered(host_of(domain), hosts):
            raise InvalidRequest(
                f"{at}.allowed_domains.{index}: {domain} is not among the allowed_hosts of the session's environment"
            )
