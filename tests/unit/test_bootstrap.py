"""What the roots open, by the settings."""

import pytest

from ingather.bootstrap import build_reader, build_text_processor
from ingather.models.errors import ConfigurationError
from ingather.settings import LlmSettings, Settings

URL = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize("half", [{"base_url": URL}, {"model": "reads"}, {"vision_model": "sees"}])
def test_half_of_a_language_model_is_refused(half):
    """Nobody finds out by answers that come from elsewhere, or by scans without text."""
    settings = Settings(llm=LlmSettings(**half))
    for build in (build_text_processor, build_reader):
        with pytest.raises(ConfigurationError, match="half configured"):
            build(settings)


async def test_without_a_language_model_texts_are_answered_here_and_documents_read_by_none():
    """An empty variable is as good as none."""
    settings = Settings(llm=LlmSettings(base_url="", model="", vision_model=""))
    texts = build_text_processor(settings)
    await texts.close()
    assert (texts.provider, build_reader(settings)) == ("extractive", None)


@pytest.mark.parametrize(("vision", "name", "sees"), [(None, "reads", False), ("sees", "reads+sees", True)])
def test_documents_are_read_by_the_models_that_are_set(vision, name, sees):
    """The one that sees is optional."""
    reader = build_reader(Settings(llm=LlmSettings(base_url=URL, model="reads", vision_model=vision)))
    assert (reader.name, reader.reads_images) == (name, sees)
