"""What clients cannot make the server do: hold more memory than its budget allows, read a body without a key, wait for
one that does not come."""
import json
import socket
import tempfile
import time
import unittest
from pathlib import Path

import support
from server_test import PROMPT, Server
from serving_test import request_bytes, resident

SLACK = 64 << 20
BODY = {"prompt": PROMPT, "max_tokens": 3, "temperature": 0}


def begun(port, length, sent=0, key="", chunked=False):
    """A request whose body does not come to its end."""
    s = socket.create_connection(("127.0.0.1", port), 20)
    head = "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {key}\r\n" if key else ""
    head += "Transfer-Encoding: chunked\r\n\r\n" if chunked else f"Content-Length: {length}\r\n\r\n"
    s.sendall(head.encode())
    if sent and not chunked:
        push(s, b'{"prompt":"' + b"a" * (sent - 11))
    for _ in range(sent >> 16 if chunked else 0):
        if not push(s, b"10000\r\n" + b" " * 65536 + b"\r\n"):
            break
    return s


def push(s, data):
    """Whether all of it was taken."""
    s.settimeout(3)
    try:
        s.sendall(data)
        return True
    except OSError:  # refused
        return False


def status_of(s, seconds=20):
    """Of what the server says at once; None where it waits."""
    s.settimeout(seconds)
    try:
        got = s.recv(4096)
    except (socket.timeout, ConnectionError):
        return None
    return int(got.split()[1]) if got else None


class Bounds(unittest.TestCase):
    def start(self, *flags, **more):
        server = Server(*flags, **more)
        self.addCleanup(lambda: self.assertEqual(server.stop(), 0))
        return server

    def held(self, server):
        return server.metric("venturi_clients_held_bytes")

    def gives_all_back(self, server):
        end = time.monotonic() + 20
        while self.held(server) > 0 and time.monotonic() < end:
            time.sleep(0.05)
        # A request for the metrics holds nothing.
        self.assertEqual(self.held(server), 0)
        self.assertNotIn('holder="clients"', server.ask("GET", "/metrics")[1])

    def close(self, sockets):
        for s in sockets:
            s.close()


class Memory(Bounds):
    BUDGET = 64_000_000

    def within(self, server):
        if not support.OPTIONS.sanitized:
            self.assertLess(resident(server.process.pid), self.BUDGET + SLACK)

    def unfinished(self, length, sent, chunked=False, n=16):
        """What is answered to many bodies that do not end, and an ordinary request beside them."""
        server = self.start("--memory", "64M", "--streams", 2)
        alone = server.ask("POST", "/v1/completions", BODY)[1]["choices"][0]["text"]
        opened = [begun(server.port, length, sent, chunked=chunked) for _ in range(n)]
        self.within(server)
        status, answer, _ = server.ask("POST", "/v1/completions", BODY)
        self.assertEqual((status, answer["choices"][0]["text"]), (200, alone))
        text = server.ask("GET", "/metrics")[1]
        self.within(server)
        statuses = [status_of(s, 0.3) for s in opened]
        self.close(opened)
        self.gives_all_back(server)
        return statuses, text

    def test_bodies_larger_than_the_budget_bears_are_a_413(self):
        statuses, _ = self.unfinished(15_000_000, 14_900_000)
        self.assertEqual(set(statuses), {413})

    def test_bodies_beyond_the_room_are_a_503_and_ordinary_ones_are_served(self):
        statuses, text = self.unfinished(4_000_000, 3_900_000)
        self.assertEqual(set(statuses), {503, None})  # some are waited for
        self.assertIn('holder="clients"', text)
        statuses, _ = self.unfinished(0, 4_000_000, chunked=True)
        self.assertEqual(set(statuses), {503, None})

    def test_a_refusal_says_when_to_come_again(self):
        server = self.start("--memory", "64M", "--streams", 2)
        opened = [begun(server.port, 4_000_000, 1000) for _ in range(8)]
        status, answer, headers = server.ask("POST", "/v1/completions", json.dumps({**BODY, "user": "a" * 3_000_000}))
        self.assertEqual((status, headers["Retry-After"], answer["error"]["type"]), (503, "1", "server_error"))
        self.close(opened)
        self.gives_all_back(server)
        self.assertGreater(server.metric("venturi_clients_without_room_total"), 0)
        self.assertEqual(server.ask("POST", "/v1/completions", json.dumps({**BODY, "user": "a" * 3_000_000}))[0], 200)

    def test_what_a_body_is_parsed_to_counts(self):
        server = self.start("--memory", "64M", "--streams", 2)
        status, answer, _ = server.ask("POST", "/v1/completions", '{"prompt":[' + "7," * 1_900_000 + "7]}")
        self.assertEqual(status, 503, answer)
        self.assertIn("values", answer["error"]["message"])
        self.within(server)
        self.gives_all_back(server)

    def test_headers_count(self):
        server = self.start("--memory", "64M", "--streams", 2)
        opened = []
        for _ in range(600):
            s = socket.create_connection(("127.0.0.1", server.port), 20)
            s.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 15000)
            opened.append(s)
        self.assertEqual(server.ask("GET", "/health")[0], 200)
        self.within(server)
        self.assertIn(503, {status_of(s, 0.1) for s in opened[-5:]})
        self.close(opened)
        self.gives_all_back(server)


class Keys(Bounds):
    def test_the_key_is_asked_for_before_the_body(self):
        server = self.start("--streams", 2, "--api-key", "right")
        for chunked in (False, True):
            with begun(server.port, 1_000_000, 65536, "wrong", chunked) as s:
                self.assertEqual(status_of(s), 401)
        with begun(server.port, 1_000_000, 65536, "right") as s:
            self.assertIsNone(status_of(s, 0.3))
        # Nor is anyone without it told to go on, and what is sent in spite of it hides no answer.
        with socket.create_connection(("127.0.0.1", server.port), 20) as s:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n")
            self.assertEqual(status_of(s), 401)
        status, answer, _ = server.ask("POST", "/v1/completions", json.dumps({**BODY, "user": "a" * 9_000_000}), {"Authorization": "Bearer wrong"})
        self.assertEqual((status, answer["error"]["code"]), (401, "invalid_api_key"))
        self.assertEqual(server.ask("POST", "/nowhere", "{}", {"Authorization": "Bearer right"})[0], 404)
        self.assertEqual(server.ask("POST", "/metrics", "{}", {"Authorization": "Bearer right"})[0], 405)


class Slow(Bounds):
    def test_a_body_that_does_not_come_is_a_408(self):
        server = self.start("--streams", 2, "--body-timeout", 1)
        begin = time.monotonic()
        with begun(server.port, 1000, 100) as slow, begun(server.port, 1000, 100) as dripping, \
                begun(server.port, 0, 65536, chunked=True) as chunked:
            while time.monotonic() < begin + 0.8:
                dripping.sendall(b"a")
                time.sleep(0.05)
            self.assertEqual(server.ask("POST", "/v1/completions", BODY)[0], 200)
            for s in (slow, dripping, chunked):
                self.assertEqual(status_of(s), 408)
        self.assertGreater(time.monotonic(), begin + 0.9)
        self.assertEqual(self.held(server), 0)


if __name__ == "__main__":
    support.main()
