"""A connection whose every byte the case writes itself."""

import socket
import ssl

from relay import Relay

#: For what has to come. What must not come is never waited for: a question behind it is answered, or the connection ends.
DEADLINE = 15


class Wire:
    """The bytes that come, and an end."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data: bytes):
        """Whether the other side takes it shows in what comes back."""
        try:
            self.socket.sendall(data)
        except ConnectionError:
            pass

    def end(self):
        """No more will come from here."""
        self.socket.shutdown(socket.SHUT_WR)

    def more(self) -> bool:
        """Reads on; whether something came before the end. `TimeoutError` if neither comes."""
        data = self.received()
        self.buffer += data
        return bool(data)

    def received(self) -> bytes:
        try:
            return self.socket.recv(65536)
        except ConnectionError:
            return b""

    def take(self, count: int) -> bytes | None:
        """So many bytes; nothing if it ends before."""
        while len(self.buffer) < count:
            if not self.more():
                return None
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def take_until(self, mark: bytes) -> bytes | None:
        while mark not in self.buffer:
            if not self.more():
                return None
        taken, self.buffer = self.buffer.split(mark, 1)
        return taken


class Tls(Wire):
    """In memory, so that what has come is read even if the other side takes nothing any more."""

    def __init__(self, port: int, context: ssl.SSLContext):
        super().__init__(port)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        while not self.is_up():
            pass

    def is_up(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            super().send(self.outgoing.read())
            self.feed()
            return False
        super().send(self.outgoing.read())
        return True

    def feed(self):
        if data := super().received():
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    def send(self, data: bytes):
        self.tls.write(data)
        super().send(self.outgoing.read())

    def received(self) -> bytes:
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                self.feed()
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                return b""


def public(relay: Relay, *alpn: str) -> Tls:
    """To the public listener, with these protocols offered; without any, none is."""
    return Tls(relay.port, relay.tls(*alpn))


def ops(relay: Relay) -> Wire:
    """To the operator's listener, which has no TLS."""
    return Wire(relay.ops_port)
