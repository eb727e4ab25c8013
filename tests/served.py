"""Servers for tests: of requests only, and a real one in a thread for those that need connections."""

import contextlib
import threading
import time


@contextlib.contextmanager
def asking(model):
    """What starts a server with such limits and options of ``create_app``, and returns a client of it."""
    from starlette.testclient import TestClient

    from restyle.serve.app import create_app

    with contextlib.ExitStack() as clients:

        def start(limits=None, **options):
            return clients.enter_context(TestClient(create_app(model, limits, **options)))

        yield start


@contextlib.contextmanager
def serving(model, limits=None, **options):
    """(address and port, the application) of a server with such limits and options of ``create_app``."""
    import uvicorn

    from restyle.serve.app import create_app
    from restyle.serve.server import Connection, listen

    app = create_app(model, limits, **options)
    with listen("127.0.0.1", 0) as listening:
        server = uvicorn.Server(uvicorn.Config(app, http=Connection, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[:2], app
        finally:
            server.should_exit = True
            thread.join(60)


def wait_until(condition):
    """Give a condition time to come true."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to that")


def problem(reply, status):
    """The document of a refusal, after a look at its form."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    document = reply.json()
    assert document["status"] == status
    assert document["title"]
    assert "Traceback" not in document["detail"]
    return document
