"""Searches with the Brave Search API."""

from __future__ import annotations

from hostler.web.search import Hit, Query, Tools, with_sites

URL = "https://api.search.brave.com/res/v1/web/search"
_LOCATION = {
    "city": "x-loc-city",
    "region": "x-loc-state-name",
    "country": "x-loc-country",
    "timezone": "x-loc-timezone",
}


class Brave:
    def __init__(self, tools: Tools) -> None:
        self._url = tools.config.search_url or URL
        self._key = tools.key
        self._get_json = tools.get_json

    async def find(self, query: Query) -> list[Hit]:
        headers = {"x-subscription-token": self._key, "accept": "application/json"}
        for member, header in _LOCATION.items():
            if (value := query.location.get(member, "")) and value.isascii():
                headers[header] = value
        params = {"q": with_sites(query), "count": "20", "text_decorations": "false"}
        answer = await self._get_json("GET", self._url, params=params, headers=headers)
        return [
            Hit(
                url=result["url"],
                title=result.get("title") or "",
                snippet=" ".join([result.get("description") or "", *(result.get("extra_snippets") or ())]),
                age=result.get("age") or "",
            )
            for result in (answer.get("web") or {}).get("results") or ()
        ]
