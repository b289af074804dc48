# SPDX-License-Identifier: Apache-2.0
"""Servers and clients that tests talk with. All of them end with their lab."""

import http.server
import os
import socket
import subprocess
import threading

from lab import eventually

SO_RCVBUFFORCE = 33


def open_socket(space, kind, address, port=0, device=None):
    """A bound socket in a namespace."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with space.entered():
        made = socket.socket(family, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if device:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.settimeout(10)
    made.bind((address, port))
    return made


def udp(space, address, port=0):
    made = open_socket(space, socket.SOCK_DGRAM, address, port)
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)  # what a test sends in one go
    return made


def tcp_connect(space, address, port, to, to_port, timeout=10):
    made = open_socket(space, socket.SOCK_STREAM, address, port)
    made.settimeout(timeout)
    made.connect((to, to_port))
    return made


class UdpEcho:
    """Answers each datagram with the address that it saw and the datagram; keeps what it saw."""

    def __init__(self, where, space, address, port):
        self.socket = udp(space, address, port)
        self.seen = []
        threading.Thread(target=self._serve, daemon=True).start()
        where.on_close(self.socket.close)

    def _serve(self):
        while True:
            try:
                data, peer = self.socket.recvfrom(65536)
                self.seen.append((peer[0], peer[1], data))
                self.socket.sendto(f"{peer[0]} {peer[1]} ".encode() + data, peer)
            except TimeoutError:
                continue
            except OSError:
                return


class TcpEcho:
    """A first line with the address that it saw, then everything back."""

    def __init__(self, where, space, address, port):
        self.socket = open_socket(space, socket.SOCK_STREAM, address, port)
        self.socket.listen(64)
        self.seen = []
        threading.Thread(target=self._accept, daemon=True).start()
        where.on_close(self.socket.close)

    def _accept(self):
        while True:
            try:
                connection, peer = self.socket.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self.seen.append(peer[:2])
            threading.Thread(target=self._serve, args=(connection, peer), daemon=True).start()

    @staticmethod
    def _serve(connection, peer):
        connection.settimeout(120)
        with connection:
            try:
                connection.sendall(f"{peer[0]} {peer[1]}\n".encode())
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return


def http_server(where, space, folder, address, port=80):
    """Serves a folder. What it has seen is in the list that this answers: client address and request line."""
    seen = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=folder)

        def log_message(self, _, *arguments):
            seen.append((self.client_address[0], arguments[0]))

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        daemon_threads = True

    with space.entered():
        server = Server((address, port), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    where.on_close(server.server_close)
    where.on_close(server.shutdown)
    return seen


def web_folder(where, **files):
    folder = where.path("www")
    os.makedirs(folder, exist_ok=True)
    for name, data in files.items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)
    return folder


def exchange(sender, to, port, data=b"ping"):
    """One datagram there and its answer back."""
    sender.sendto(data, (to, port))
    return sender.recvfrom(65536)


def receive_line(connection):
    line = b""
    while not line.endswith(b"\n"):
        part = connection.recv(1)
        if not part:
            raise AssertionError(f"the connection ended after {line!r}")
        line += part
    return line.decode().strip()


def receive_all(connection, size):
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise AssertionError(f"the connection ended after {len(data)} of {size} bytes")
        data += part
    return data


def iperf3_server(space, port=5201):
    space.popen("iperf3", "-s", "-p", str(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually(lambda: f":{port} " in space.run("ss", "-Hltn").stdout, "iperf3 listens")
