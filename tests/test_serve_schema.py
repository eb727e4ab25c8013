"""schemathesis asks what the OpenAPI document allows and what it forbids; every answer must be one that it names."""

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx2", reason="starlette's test client needs it")
pytest.importorskip("schemathesis")
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from restyle.image import encode_image
from restyle.serve.limits import Limits
from served import serving

ROUTES = [
    ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/v1/models"), ("GET", "/v1/styles"),
    ("GET", "/gallery/{name}.jpg"), ("GET", "/samples/{name}.jpg"), ("POST", "/v1/styles"), ("POST", "/v1/images"),
    ("POST", "/v1/videos"), ("GET", "/v1/jobs/{id}"), ("DELETE", "/v1/jobs/{id}"), ("GET", "/v1/jobs/{id}/events"),
    ("GET", "/v1/jobs/{id}/video"),
]  # fmt: skip


@pytest.fixture(scope="module")
def document(model):
    with serving(model, Limits(rate=0, max_pixels=100_000)) as ((_, port), _):
        yield schemathesis.openapi.from_url(f"http://localhost:{port}/openapi.json")


def test_no_route_is_left_out(document):
    assert {(route.ok().method.upper(), route.ok().path) for route in document.get_all_operations()} == set(ROUTES)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_answers_are_as_announced(document, method, path, mode, photo):
    picture = encode_image(photo, "png")

    @given(case=document[path][method].as_strategy(generation_mode=mode))
    @settings(max_examples=25, derandomize=True, suppress_health_check=list(HealthCheck))
    def ask(case):
        if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):  # a schema cannot say what a picture is
            for name in {"content", "style", "mask"} & case.body.keys():
                case.body[name] = picture
            if path == "/v1/images":
                case.body = {**case.body, "style_id": ["wave"], "style_weight": [1]}
                case.body.pop("style", None)
        unsure = [positive_data_acceptance, *([negative_data_rejection] if mode is GenerationMode.POSITIVE else [])]
        case.call_and_validate(excluded_checks=unsure)

    if mode is GenerationMode.NEGATIVE and method != "POST":
        return  # nothing can be wrong where nothing is asked for
    ask()
