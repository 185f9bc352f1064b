"""A processor of texts that answers as a test says."""

from ingather.models.text import TextAnswer, TextTask


class TextsStandIn:
    """Remembers what it was asked."""

    provider = "stand-in"
    model = "small"

    def __init__(self) -> None:
        self.identity = "stand-in/small/1"
        self.asked: list[TextTask] = []
        self.errors: list[Exception] = []
        """What it raises next, one after the other; then it answers."""

    async def process(self, task: TextTask) -> TextAnswer:
        self.asked.append(task)
        if self.errors:
            raise self.errors.pop(0)
        return TextAnswer(result=f"Answer {len(self.asked)}", details={"usage": {"prompt_tokens": 3}})

    async def close(self) -> None: ...
