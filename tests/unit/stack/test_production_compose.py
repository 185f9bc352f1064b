"""docker-compose.yml: what production starts agrees with the code, and is closed by default."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from ingather.models.engine import SEARCH_ATTRIBUTES
from ingather.settings import Settings
from ingather.stack.temporal import DYNAMIC_CONFIG, ONE_MACHINE
from worker import ROLES

ROOT = Path(__file__).parents[3]
SECRET = "a-secret-that-is-long-enough-to-sign-with"
REQUIRED = re.compile(r"\$\{(\w+):\?[^}]+\}")
OPTIONAL = re.compile(r"\$\{\w+:-\}")
OURS = ("api", "worker-workflows", "worker-io", "worker-cpu")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    return compose["services"]


def test_every_part_of_a_deployment_is_there(services: dict[str, Any]):
    """Servers, the two one-shot jobs of Temporal, the API, and one worker for each role."""
    servers = {"postgresql", "temporal", "temporal-schema", "temporal-namespace", "temporal-ui", "s3", "redis"}
    assert set(services) == servers | set(OURS)
    roles = {service["command"][-1] for name, service in services.items() if name.startswith("worker-")}
    assert roles == set(ROLES)


def test_every_image_is_pinned(services: dict[str, Any]):
    """Two deployments of one commit run the same servers."""
    images = {name: service["image"] for name, service in services.items()}
    assert {name: image for name, image in images.items() if not re.search(r":\d+(\.\d+)+$", image)} == {}


def test_our_version_is_the_image_s(services: dict[str, Any]):
    """The image is named after the version in pyproject.toml."""
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert version is not None
    assert services["api"]["image"] == f"ingather:{version[1]}"


def test_every_port_is_published_on_loopback(services: dict[str, Any]):
    """Nothing is reachable from the network until somebody decides so."""
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_there_are_no_default_passwords(services: dict[str, Any]):
    """Every secret must be given; Compose refuses to start without it."""
    secret = re.compile(r"PASSWORD|PWD|SECRET|ACCESS_KEY|REDIS__URL|CATALOG__URL")
    values = {
        f"{name}.{key}": value
        for name, service in services.items()
        for key, value in service.get("environment", {}).items()
        if secret.search(key)
    }
    assert len(values) >= 15
    assert {key: value for key, value in values.items() if not REQUIRED.search(value)} == {}


def test_every_setting_it_names_exists(services: dict[str, Any]):
    """A setting that was renamed in the code would be ignored silently."""
    names = {key for name in OURS for key in services[name]["environment"] if key.startswith("INGATHER_")}
    assert names
    assert [name for name in sorted(names) if not is_setting(name)] == []


def is_setting(name: str) -> bool:
    model: type[BaseModel] = Settings
    *groups, last = name.removeprefix("INGATHER_").lower().split("__")
    for group in groups:
        field = model.model_fields.get(group)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return False
        model = field.annotation
    return last in model.model_fields


@pytest.mark.parametrize("name", OURS)
def test_its_settings_are_valid(services: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch):
    """With secrets filled in, the settings can be read."""
    for key, value in services[name]["environment"].items():
        monkeypatch.setenv(key, OPTIONAL.sub("", REQUIRED.sub(SECRET, value)))
    settings = Settings()
    assert settings.s3.endpoint_url
    assert settings.catalog.url.get_secret_value().startswith(f"postgresql+psycopg://ingather:{SECRET}@")


def test_the_api_asks_for_credentials(services: dict[str, Any]):
    """It listens on every address of its container, which is refused in open mode."""
    api = services["api"]
    assert api["environment"]["INGATHER_AUTH__MODE"] == "required"
    assert api["command"][api["command"].index("--host") + 1] == api["environment"]["INGATHER_API__HOST"] == "0.0.0.0"


def test_workers_are_given_longer_than_they_take(services: dict[str, Any]):
    """The orchestrator's kill comes after the graceful shutdown's end."""
    grace = Settings().worker.shutdown_grace.total_seconds()
    for name in OURS[1:]:
        assert float(services[name]["stop_grace_period"].removesuffix("s")) > grace


def test_temporal_is_set_up_for_growth(services: dict[str, Any]):
    """The number of history shards cannot be changed later."""
    assert services["temporal"]["environment"]["NUM_HISTORY_SHARDS"] == "512"


def test_temporal_is_told_the_same_as_the_embedded_one():
    """Fairness, its order over all tasks, and query limits do not differ between a laptop and production on one host."""
    config = yaml.safe_load((ROOT / "deploy/temporal/dynamic-config.yaml").read_text(encoding="utf-8"))
    assert {key: json.dumps(rules[0]["value"]) for key, rules in config.items()} == DYNAMIC_CONFIG | ONE_MACHINE


def test_all_search_attributes_are_registered():
    """A workflow cannot be started with one that is missing."""
    script = (ROOT / "deploy/temporal/namespace.sh").read_text(encoding="utf-8")
    listed = script.partition("<<ATTRIBUTES\n")[2].removesuffix("ATTRIBUTES\n")
    assert dict(line.split() for line in listed.splitlines()) == SEARCH_ATTRIBUTES


def test_files_it_mounts_and_builds_from_exist(compose: dict[str, Any], services: dict[str, Any]):
    """A missing folder would be made, empty, by the engine."""
    mounts = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    assert {mount for mount in mounts if not mount.startswith("./")} <= set(compose["volumes"])
    assert all((ROOT / mount).is_dir() for mount in mounts if mount.startswith("./"))
    assert (ROOT / services["api"]["build"]["dockerfile"]).is_file()
