"""A web host as small as can be: ``web_host.py ADDRESS PORT`` says its address to whoever asks.

Run as a process of its own, so that it can die like one.
"""

import base64
import hashlib
import http.server
import sys
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("Upgrade"):
            self.echo()
            return
        if self.path.startswith("/api/"):
            # Long enough that some are always on their way.
            time.sleep(0.02)
        heard = ", ".join(self.headers.get_all("X-Request-ID", [])).encode("latin-1")
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Heard: %s\r\n\r\n"
        self.wfile.write(head % (len(self.own), heard) + self.own)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(self.own), self.own))

    def echo(self):
        """What follows the upgrade is no websocket, but as long-lived: lines come back as they are."""
        key = f"{self.headers['Sec-WebSocket-Key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()
        accepted = base64.b64encode(hashlib.sha1(key, usedforsecurity=False).digest())
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
        self.wfile.write(b"Sec-WebSocket-Accept: %s\r\n\r\n%s\n" % (accepted, self.own))
        for line in self.rfile:
            self.wfile.write(line)
        self.close_connection = True

    @property
    def own(self):
        return self.server.server_address[0].encode()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512

    def handle_error(self, *_):
        # A health check hangs up once it knows enough.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            raise


Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
