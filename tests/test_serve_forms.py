"""The forms that requests bring: no field is left aside unseen, and none takes more memory than is allowed."""

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx2", reason="starlette's test client needs it")

from restyle.serve.limits import Limits
from served import problem


def test_of_several_files_the_one_that_cannot_be_read_is_named(start, content):
    client = start()
    styles = [("style", content), ("style", b"not a picture")]
    refusal = problem(client.post("/v1/images", files=[("content", content), *styles]), 415)
    assert refusal["detail"].startswith("style 2: cannot read the picture")
    assert (
        "content: "
        in problem(client.post("/v1/images", files={"content": b"not a picture"}, data={"style_id": "wave"}), 415)[
            "detail"
        ]
    )
    refusal = problem(client.post("/v1/styles", files={"style": b"not a picture"}), 415)
    assert refusal["detail"].startswith("style: cannot read the picture")


def test_a_forgotten_at_sign_is_told(start, content):
    client = start()
    for fields, files in (({"content": "photo.jpg"}, {"mask": content}), ({"style": "wave.jpg"}, {"content": content})):
        refusal = problem(client.post("/v1/images", data={"style_id": "wave", **fields}, files=files), 422)
        assert "an @ before the file's name" in refusal["detail"]
        assert "class" not in refusal["detail"]


def test_no_field_is_left_aside_unseen(start):
    client = start()
    document = client.get("/openapi.json").json()
    forms = {
        path: form["schema"]["$ref"].split("/")[-1]
        for path, methods in document["paths"].items()
        for form in methods.get("post", {}).get("requestBody", {}).get("content", {}).values()
    }
    assert forms.keys() == {"/v1/styles", "/v1/images", "/v1/videos"}
    for path, form in forms.items():
        detail = problem(client.post(path, files={"unheard_of": b"x"}), 422)["detail"]
        told = detail.removeprefix("there is no field 'unheard_of'; the fields are: ").split(", ")
        schema = document["components"]["schemas"][form]
        assert (sorted(told), schema["additionalProperties"]) == (sorted(schema["properties"]), False)


@pytest.mark.parametrize(
    ("path", "field"), [("/v1/images", "content"), ("/v1/styles", "style"), ("/v1/videos", "content")]
)
def test_what_the_address_or_a_second_field_says_is_refused(start, content, path, field):
    client = start()
    refusal = problem(client.post(f"{path}?strength=0", files={field: content}), 422)
    assert "from the form, not from the address" in refusal["detail"]
    twice = [("style_size", (None, "256")), ("style_size", (None, "512")), (field, content)]
    assert problem(client.post(path, files=twice), 422)["detail"] == "style_size is given more than once"


def test_two_photographs_are_refused_and_two_styles_are_not(start, content):
    client = start()
    two = [("content", content), ("content", content), ("style_id", (None, "wave"))]
    assert problem(client.post("/v1/images", files=two), 422)["detail"] == "content is given more than once"
    two = [("content", content), ("style", content), ("style", content), ("style_id", (None, "wave"))]
    assert client.post("/v1/images", files=two).status_code == 200


VIDEO = ("content", bytes(300_000))


@pytest.mark.parametrize(
    "parts",
    [
        [("style", bytes(60_000)), ("style", bytes(60_000)), VIDEO],
        [VIDEO, ("style", bytes(60_000)), ("style", bytes(60_000))],
        [("style_id", (None, "w" * 60_000)), ("style_id", (None, "w" * 60_000)), VIDEO],
    ],
)
def test_all_but_the_video_must_fit_into_the_memory_of_one_request(start, parts):
    client = start(Limits(max_bytes=100_000))
    assert "100,000 bytes together" in problem(client.post("/v1/videos", files=parts), 413)["detail"]
    fitting = [VIDEO, ("style", bytes(60_000))]
    assert "not a video" in problem(client.post("/v1/videos", files=fitting), 415)["detail"]


def test_a_video_never_lies_in_memory(start, monkeypatch):
    seen = []

    def take_over(upload, path):
        seen.append(upload._in_memory)
        path.touch()

    monkeypatch.setattr("restyle.serve.videos._take_over", take_over)
    start().post("/v1/videos", files={"content": b"a small one"}, data={"style_id": "wave"})
    assert seen == [False]


def test_a_form_without_files_may_not_be_as_large_as_a_video(start):
    reply = start(Limits(max_bytes=100_000)).post("/v1/videos", data={"style_id": "w" * 200_000})
    assert "100,000 bytes" in problem(reply, 413)["detail"]


def test_a_broken_form_is_told(start):
    broken = {"content-type": "multipart/form-data; boundary=x"}
    for path in ("/v1/images", "/v1/videos"):
        problem(start().post(path, content=b"--y\r\nnonsense", headers=broken), 400)
