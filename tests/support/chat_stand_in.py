"""A service that speaks the chat-completions protocol on loopback, and goes wrong as a test says."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.http_stand_in import Asked, HttpStandIn, Told, http_stand_in

GOOD: dict[str, str] = {
    "sentiment": '{"sentiment": "positive", "confidence": 0.9, "explanation": "It praises the quay."}',
    "key_points": '{"key_points": ["One.", "Two.", "Three.", "Four.", "Five.", "Six."]}',
    "questions": '{"questions": ["Who?", "When?", "Where?", "Why?"]}',
}


def told(content: str | None, *, finish: str = "stop", refusal: str | None = None) -> Told:
    """A completion with this content."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "stand-in",
        "choices": [{"index": 0, "finish_reason": finish, "message": message, "logprobs": None}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
    return Told(body=json.dumps(body).encode(), headers={"Content-Type": "application/json"})


def failing(status: int, **headers: str) -> Told:
    """An error whose body quotes what must never be told on."""
    body = {"error": {"message": "sk-very-secret said: the harbour of Vela", "type": "error"}}
    return Told(status, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})


@dataclass
class ChatStandIn:
    """Remembers its conversations. ``script`` holds the next answers; when it is empty, good ones follow."""

    server: HttpStandIn = field(default_factory=HttpStandIn)
    script: list[Told] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    says: Callable[[dict[str, Any]], str] | None = None
    """What it answers in prose."""
    gate: asyncio.Event | None = None
    at_once: int = 0
    most_at_once: int = 0

    @property
    def url(self) -> str:
        return f"{self.server.url}/v1"

    async def answer(self, asked: Asked) -> Told:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._answer(asked)
        finally:
            self.at_once -= 1

    async def _answer(self, asked: Asked) -> Told:
        body = json.loads(asked.body)
        self.asked.append(body)
        self.headers.append(asked.headers)
        scripted = self.script.pop(0) if self.script else None
        if self.gate is not None:
            await self.gate.wait()
        if scripted is not None:
            return scripted
        wanted = body.get("response_format", {}).get("json_schema", {}).get("name")
        if wanted in GOOD:
            return told(GOOD[wanted])
        return told(self.says(body) if self.says else "A summary of what the text says.")


@asynccontextmanager
async def chat_stand_in() -> AsyncIterator[ChatStandIn]:
    """The service, listening."""
    stand_in = ChatStandIn()
    async with http_stand_in(stand_in.answer) as server:
        stand_in.server = server
        yield stand_in
