"""The doors of venturi serve: TLS, pages of other origins, bodies that are too deep or too many."""
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import support
from server_test import MODEL, PROMPT, Server
from support import venturi


class Origins(unittest.TestCase):
    def test_no_page_may_read_unless_told(self):
        server = Server("--streams", 2)
        try:
            _, _, headers = server.ask("GET", "/v1/models", headers={"Origin": "http://evil.example"})
            self.assertIsNone(headers["Access-Control-Allow-Origin"])
            status, _, headers = server.ask("OPTIONS", "/v1/completions", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"})
            self.assertEqual(status, 403)
            self.assertIsNone(headers["Access-Control-Allow-Origin"])
        finally:
            self.assertEqual(server.stop(), 0)

    def test_no_page_may_drive_a_server_without_keys(self):
        server = Server("--streams", 2, "--alias", "tiny", "--cors-origin", "https://app.example")
        try:
            own = f"127.0.0.1:{server.port}"
            plain = {"Content-Type": "text/plain"}  # what a page may send without asking first
            foreign = [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"},
                       {"Host": "evil.example", "Origin": "https://evil.example"}, {"Host": f"evil.example:{server.port}"},
                       {"Host": "127.0.0.1.evil.example"}]
            for headers in foreign:
                for method, path, body in (("POST", "/models/unload", {"model": "tiny"}), ("POST", "/v1/messages", {}), ("POST", "/api/chat", {}),
                                           ("GET", "/v1/models", None), ("GET", "/nowhere", None), ("GET", "/status", None)):
                    with self.subTest(headers=headers, path=path):
                        status, answer, _ = server.ask(method, path, body, {**plain, **headers})
                        self.assertEqual(status, 403, answer)
                        self.assertIn("--cors-origin", json.dumps(answer))
                        self.assertEqual(answer["error"]["type"] if path == "/v1/messages" else "permission_error", "permission_error")
                self.assertEqual(server.ask("GET", "/", headers=headers)[0], 200)  # the page's files are nobody's secret
                self.assertEqual(server.ask("GET", "/health", headers=headers)[0], 200)
            self.assertEqual(server.ask("GET", "/v1/models")[1]["data"][0]["status"]["value"], "loaded")
            for headers in ({}, {"Origin": f"http://{own}"}, {"Host": f"localhost:{server.port}"}, {"Host": "[::1]:80"}, {"Origin": "https://app.example"},
                            {"Host": f"localhost:{server.port}", "Origin": f"http://localhost:{server.port}"}, {"Host": "app.example"}):
                with self.subTest(headers=headers):
                    self.assertEqual(server.ask("POST", "/tokenize", {"content": "a"}, {**plain, **headers})[0], 200)
        finally:
            self.assertEqual(server.stop(), 0)

    def test_a_key_is_enough_and_outside_any_name_will_do(self):
        server = Server("--streams", 2, "--api-key", "k")
        try:
            headers = {"Host": "llm.example", "Origin": "https://evil.example", "Authorization": "Bearer k"}
            self.assertEqual(server.ask("POST", "/tokenize", {"content": "a"}, headers)[0], 200)
        finally:
            self.assertEqual(server.stop(), 0)
        server = Server("--streams", 2, "--host", "0.0.0.0", "--insecure", host="0.0.0.0")
        try:
            ask = lambda **headers: server.ask("POST", "/tokenize", {"content": "a"}, headers)[0]
            self.assertEqual(ask(Host="box.example:80"), 200)
            self.assertEqual(ask(Host="box.example:80", Origin="http://box.example:80"), 200)
            self.assertEqual(ask(Host="box.example:80", Origin="https://evil.example"), 403)
        finally:
            self.assertEqual(server.stop(), 0)

    def test_those_told_may(self):
        server = Server("--streams", 2, "--cors-origin", "http://app.example", "--cors-origin", "http://other.example", "--api-key", "k")
        try:
            ask = {"Origin": "http://app.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-stainless-os"}
            status, _, headers = server.ask("OPTIONS", "/v1/completions", headers=ask)
            self.assertEqual((status, headers["Access-Control-Allow-Origin"], headers["Access-Control-Allow-Headers"]),
                             (204, "http://app.example", "authorization,x-stainless-os"))
            # Errors too can be read; a stream says so in its header.
            for key, status in (("wrong", 401), ("k", 200)):
                for stream in (False, True):
                    connection = server.connect()
                    connection.request("POST", "/v1/completions", json.dumps({"prompt": "a", "max_tokens": 2, "stream": stream}),
                                       {"Origin": "http://other.example", "Authorization": f"Bearer {key}"})
                    response = connection.getresponse()
                    self.assertEqual((response.status, response.headers["Access-Control-Allow-Origin"], response.headers["Vary"]),
                                     (status, "http://other.example", "Origin"))
                    response.read()
                    connection.close()
            status, _, headers = server.ask("OPTIONS", "/v1/completions", headers={**ask, "Origin": "http://evil.example"})
            self.assertIsNone(headers["Access-Control-Allow-Origin"])
        finally:
            self.assertEqual(server.stop(), 0)


class Bodies(unittest.TestCase):
    def test_depth_and_count_are_bounded(self):
        server = Server("--streams", 2)
        try:
            for body, says in (("[" * 100_000, "deeper"), ('{"prompt":' + "[" * 65 + "]" * 65 + "}", "deeper"),
                               ("[" + "0," * 2_200_000 + "0]", "values")):
                status, answer, _ = server.ask("POST", "/v1/completions", body)
                self.assertEqual(status, 400)
                self.assertIn(says, answer["error"]["message"])
        finally:
            self.assertEqual(server.stop(), 0)


class Forms(unittest.TestCase):
    def raw(self, server, sent):
        with socket.create_connection(("127.0.0.1", server.port), 20) as s:
            s.sendall(sent)
            s.settimeout(30)
            got = b""
            while chunk := s.recv(1 << 16):
                got += chunk
                head, _, body = got.partition(b"\r\n\r\n")
                length = [int(l.split(b":")[1]) for l in head.split(b"\r\n") if l.lower().startswith(b"content-length")]
                if length and len(body) >= length[0]:
                    return int(head.split()[1]), json.loads(body)
        raise AssertionError(got)

    def test_errors_before_a_route_look_as_its_own(self):
        server = Server("--streams", 2, "--body-timeout", 0.3)
        large = lambda path: f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {1 << 40}\r\n\r\n".encode()
        slow = lambda path: f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{{".encode()
        header = lambda path: f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX: {'a' * 30000}\r\n\r\n".encode()
        try:
            for make, expected, kind in ((large, 413, "request_too_large"), (slow, 408, "invalid_request_error"), (header, 431, "invalid_request_error")):
                for path in ("/v1/chat/completions", "/v1/messages", "/api/chat"):
                    with self.subTest(path=path, expected=expected):
                        status, answer = self.raw(server, make(path))
                        self.assertEqual(status, expected, answer)
                        if path == "/v1/messages":
                            self.assertEqual((answer["type"], answer["error"]["type"]), ("error", kind))
                        elif path == "/api/chat":
                            self.assertIsInstance(answer["error"], str)
                        else:
                            self.assertEqual((set(answer["error"]), answer["error"]["type"]), ({"message", "type", "param", "code"}, "invalid_request_error"))
            status, answer = self.raw(server, b"nonsense\r\n\r\n")
            self.assertEqual((status, set(answer["error"])), (400, {"message", "type", "param", "code"}))
        finally:
            self.assertEqual(server.stop(), 0)


class Hosts(unittest.TestCase):
    def test_localhost_is_this_machine(self):
        server = Server("--streams", 2, "--host", "localhost", host="localhost")
        try:
            self.assertEqual(server.ask("GET", "/v1/models", headers={"Host": f"localhost:{server.port}"})[0], 200)
        finally:
            self.assertEqual(server.stop(), 0)
        refused = venturi("serve", "-m", MODEL, "--port", 0, "--host", "0.0.0.0")
        self.assertIn("--api-key-file", refused.err)


@unittest.skipUnless(shutil.which("openssl"), "no openssl (Debian: apt-get install openssl)")
class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.cert, cls.key = (str(Path(cls.folder.name) / n) for n in ("cert.pem", "key.pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", cls.key,
                        "-out", cls.cert, "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
                       check=True, capture_output=True)
        cls.server = Server("--streams", 2, "--tls-cert", cls.cert, "--tls-key", cls.key, scheme="https")
        cls.context = ssl.create_default_context(cafile=cls.cert)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()
        assert cls.server.stop() == 0

    def connect(self):
        return http.client.HTTPSConnection("127.0.0.1", self.server.port, timeout=60, context=self.context)

    def ask(self, method, path, body=None):
        connection = self.connect()
        connection.request(method, path, json.dumps(body) if body else None)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text

    def cancelled(self):
        text = self.ask("GET", "/metrics")[1]
        return int(next(l for l in text.splitlines() if l.startswith("venturi_requests_cancelled_total")).split()[-1])

    def test_requests_and_streams(self):
        connection = self.connect()
        for _ in range(3):  # on one connection
            connection.request("POST", "/v1/completions", json.dumps({"prompt": PROMPT, "max_tokens": 5, "temperature": 0}))
            whole = json.loads(connection.getresponse().read())["choices"][0]["text"]
        connection.request("POST", "/v1/completions", json.dumps({"prompt": PROMPT, "max_tokens": 5, "temperature": 0, "stream": True}))
        events = connection.getresponse().read().decode().split("\n\n")
        connection.close()
        self.assertEqual("".join(json.loads(e[6:])["choices"][0]["text"] for e in events if e.startswith("data: {")), whole)
        self.assertEqual(events[-2], "data: [DONE]")
        version = self.connect()
        version.connect()
        self.assertIn(version.sock.version(), ("TLSv1.3", "TLSv1.2"))
        version.close()

    def test_who_goes_is_noticed(self):
        before = self.cancelled()
        for polite in (False, True):
            connection = self.connect()
            connection.request("POST", "/v1/completions", json.dumps({"prompt": PROMPT, "max_tokens": 240, "ignore_eos": True, "n": 8}))
            time.sleep(0.05)
            if polite:  # a TLS goodbye lies unread before the end of the connection
                connection.sock.settimeout(0.01)
                try:
                    connection.sock.unwrap()
                except OSError:
                    pass
            connection.close()
        end = time.monotonic() + 20
        while self.cancelled() == before and time.monotonic() < end:
            time.sleep(0.1)
        self.assertGreater(self.cancelled(), before)

    def test_plain_bytes_and_silence_hurt_nobody(self):
        with socket.create_connection(("127.0.0.1", self.server.port), 20) as silent:
            with socket.create_connection(("127.0.0.1", self.server.port), 20) as plain:
                plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                plain.settimeout(20)
                self.assertNotIn(b"200 OK", plain.recv(1 << 16))
            self.assertEqual(self.ask("GET", "/health")[0], 200)
            silent.settimeout(30)
            self.assertEqual(silent.recv(100), b"")

    def test_what_is_no_certificate_is_refused(self):
        for flags in (["--tls-cert", self.cert], ["--tls-cert", self.key, "--tls-key", self.key], ["--tls-cert", self.cert, "--tls-key", "/nowhere"]):
            refused = venturi("serve", "-m", MODEL, "--port", 0, *flags)
            self.assertEqual(refused.code, 2, refused)
            self.assertIn("--tls-", refused.err)


if __name__ == "__main__":
    support.main()
