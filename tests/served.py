"""A real server in a thread, for tests that need connections and not only requests."""

import contextlib
import threading


@contextlib.contextmanager
def serving(model, limits=None, **options):
    """(address and port, the application) of a server with such limits and options of ``create_app``."""
    import uvicorn

    from restyle.serve.app import create_app
    from restyle.serve.server import listen

    app = create_app(model, limits, **options)
    with listen("127.0.0.1", 0) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[:2], app
        finally:
            server.should_exit = True
            thread.join(60)
