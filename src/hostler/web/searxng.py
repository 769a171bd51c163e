"""Searches with a SearXNG server through its JSON API (`search.formats` in its settings must list json)."""

from __future__ import annotations

from hostler.web.search import Hit, Query, Tools, with_sites


class SearXNG:
    def __init__(self, tools: Tools) -> None:
        self._url = f"{tools.config.search_url.rstrip('/')}/search"
        self._get_json = tools.get_json

    async def find(self, query: Query) -> list[Hit]:
        answer = await self._get_json("GET", self._url, params={"q": with_sites(query), "format": "json"})
        return [
            Hit(
                url=result["url"],
                title=result.get("title") or "",
                snippet=result.get("content") or "",
                age=(result.get("publishedDate") or "")[:10],
            )
            for result in answer["results"]
        ]
