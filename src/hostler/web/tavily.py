"""Searches with the Tavily API."""

from __future__ import annotations

from typing import Any

from hostler.web.search import Hit, Query, Tools

URL = "https://api.tavily.com/search"


class Tavily:
    def __init__(self, tools: Tools) -> None:
        self._url = tools.config.search_url or URL
        self._key = tools.key
        self._get_json = tools.get_json

    async def find(self, query: Query) -> list[Hit]:
        body: dict[str, Any] = {"query": query.text, "max_results": 20, "search_depth": "basic"}
        if query.rules.wanted:
            body["include_domains"] = query.rules.wanted
        if query.rules.unwanted:
            body["exclude_domains"] = query.rules.unwanted
        headers = {"authorization": f"Bearer {self._key}"}
        answer = await self._get_json("POST", self._url, json=body, headers=headers)
        return [
            Hit(
                url=result["url"],
                title=result.get("title") or "",
                snippet=result.get("content") or "",
                age=(result.get("published_date") or "")[:16],
            )
            for result in answer["results"]
        ]
