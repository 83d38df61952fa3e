"""A client of the stream: one websocket, its frames, and how it was closed."""

import json
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import websocket
from client import Answer, Client

STREAM = "/api/v1/stream"
UNIT = "gunicorn-stream.service"


class Stream:
    """Terms from *start* on, through the whole line; *count* of them or as long as one reads.

    The request's *id* finds it in the logs.
    """

    def __init__(self, client: Client, start: int = 0, count: int | None = None, id: str | None = None) -> None:
        query = f"start={start}" if count is None else f"start={start}&count={count}"
        url = f"ws://{client.address}:{client.port}{STREAM}?{query}"
        self.code: int | None = None
        try:
            # json.loads sees to the UTF-8: what the library has for it is slower than the stream.
            self._socket = websocket.create_connection(
                url, timeout=client.patience, header={"X-Request-ID": id} if id else {}, skip_utf8_validation=True
            )
        except websocket.WebSocketException as error:
            raise ConnectionError(f"no websocket: {error}") from error

    def __enter__(self) -> "Stream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield frame after frame until the server closes; then `code` says why."""
        while True:
            try:
                kind, data = self._socket.recv_data(control_frame=True)
            except websocket.WebSocketException as error:
                raise ConnectionError(f"broken off: {error}") from error
            if kind == websocket.ABNF.OPCODE_CLOSE:
                self.code = int.from_bytes(data[:2], "big")
                return
            if kind == websocket.ABNF.OPCODE_TEXT:
                yield json.loads(data)


def knock(client: Client, query: str = "start=0&count=1") -> Answer:
    """Return the HTTP answer to a request for a websocket that is refused."""
    wish = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    return client.ask(f"{STREAM}?{query}", wish | {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="})


def streams(client: Client) -> bool:
    """Fail unless a short stream is right."""
    with Stream(client, 10, 5) as stream:
        frames = list(stream)
    assert frames == [{"start": 10, "terms": ["55", "89", "144", "233", "377"]}, {"done": True, "next": 15}]
    assert stream.code == websocket.STATUS_NORMAL
    return True
