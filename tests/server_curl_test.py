"""venturi serve as curl sees it: whole answers and streams, errors, keys, TLS, methods, bodies that are too large or asked
about first."""
import json
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import support
from server_test import PROMPT, Server

CURL = shutil.which("curl")
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 12, "temperature": 0, "ignore_eos": True}
JSON = ("-H", "Content-Type: application/json")
KEY = "sk-right"


@unittest.skipUnless(CURL, "no curl (Debian: apt-get install curl)")
class Curl(unittest.TestCase):
    maxDiff = None
    TRUST = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--streams", 2, "--alias", "tiny", "--api-key", KEY)
        cls.url = f"http://127.0.0.1:{cls.server.port}"

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        assert code == 0, code

    def command(self, *flags, key=KEY):
        return [CURL, "--silent", "--show-error", "--max-time", "60", "--noproxy", "*", *self.TRUST, *JSON,
                *(["-H", f"Authorization: Bearer {key}"] if key else []), *map(str, flags)]

    def curl(self, path, *flags, key=KEY, stdin=None, code=0):
        """(status, headers by their names in small letters, body), as curl has them."""
        with tempfile.NamedTemporaryFile() as headers:
            command = self.command("-D", headers.name, *flags, self.url + path, key=key)
            done = subprocess.run(command, capture_output=True, input=stdin)
            self.assertEqual(done.returncode, code, (command, done.stderr))
            self.headers = Path(headers.name).read_bytes()
            blocks = [b for b in self.headers.decode().split("\r\n\r\n") if b]
        self.statuses = [int(b.split()[1]) for b in blocks]  # with those that came before the answer's
        if not blocks:
            return None, {}, done.stdout
        lines = blocks[-1].splitlines()[1:]
        return self.statuses[-1], {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}, done.stdout

    def test_a_chat_completion(self):
        status, headers, body = self.curl("/v1/chat/completions", "-d", json.dumps(CHAT))
        answer = json.loads(body)
        self.assertEqual((status, headers["content-type"], int(headers["content-length"])), (200, "application/json", len(body)), answer)
        self.assertEqual((answer["object"], answer["model"], answer["choices"][0]["finish_reason"]), ("chat.completion", "tiny", "length"))
        self.assertEqual(answer["usage"]["completion_tokens"], 12)
        # Two on one connection.
        two = subprocess.run(self.command("-d", json.dumps(CHAT), "-w", "\n%{num_connects}\n", *[self.url + "/v1/chat/completions"] * 2), capture_output=True)
        lines = two.stdout.decode().splitlines()
        self.assertEqual([lines[1], lines[3]], ["1", "0"], two)
        self.assertEqual([json.loads(lines[i])["choices"] for i in (0, 2)], [answer["choices"]] * 2)

    def test_a_stream_comes_as_it_is_made(self):
        whole = json.loads(self.curl("/v1/chat/completions", "-d", json.dumps(CHAT))[2])["choices"][0]["message"]["content"]
        status, headers, body = self.curl("/v1/chat/completions", "-N", "-d", json.dumps({**CHAT, "stream": True, "stream_options": {"include_usage": True}}))
        self.assertEqual(status, 200, body)
        self.assertTrue(headers["content-type"].startswith("text/event-stream"))
        self.assertEqual((headers["cache-control"], headers["transfer-encoding"]), ("no-cache", "chunked"))
        events = [block.removeprefix("data: ") for block in body.decode().split("\n\n") if block.startswith("data: ")]
        self.assertEqual(events[-1], "[DONE]")
        chunks = [json.loads(e) for e in events[:-1]]
        self.assertEqual(chunks[0]["choices"][0]["delta"]["role"], "assistant")
        self.assertEqual("".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]), whole)
        self.assertEqual((chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]), ([], 12))
        # The first event is there long before the last; a client that goes ends its request.
        request = json.dumps({**CHAT, "stream": True, "n": 2, "max_tokens": 150})
        process = subprocess.Popen(self.command("-N", "-d", request, self.url + "/v1/chat/completions"), stdout=subprocess.PIPE)
        first = process.stdout.readline()
        self.assertTrue(first.startswith(b"data: {"), first)
        self.assertIsNone(process.poll())
        process.kill()
        process.wait()
        process.stdout.close()
        end = time.monotonic() + 20
        while b"venturi_requests_cancelled_total{model_name=\"tiny\"} 2\n" not in self.curl("/metrics")[2]:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)

    def test_errors_have_their_status_and_say_why(self):
        for path, body, status, param in (("/v1/chat/completions", "{", 400, None), ("/v1/chat/completions", "{}", 400, "messages"),
                                          ("/v1/chat/completions", json.dumps({**CHAT, "temperature": "hot"}), 400, "temperature"),
                                          ("/v1/chat/completions", json.dumps({**CHAT, "stream": True, "n": 0}), 400, "n"),
                                          ("/v1/completions", json.dumps({"prompt": "a " * 3000}), 400, None)):
            with self.subTest(path=path, body=body[:60]):
                got, headers, answer = self.curl(path, "-d", body)
                self.assertEqual((got, headers["content-type"]), (status, "application/json"), answer)
                error = json.loads(answer)["error"]
                self.assertEqual((set(error), error["type"]), ({"message", "type", "param", "code"}, "invalid_request_error"))
                if param:
                    self.assertEqual(error["param"], param)
        # --fail: a script sees it, too.
        self.assertEqual(self.curl("/v1/chat/completions", "--fail", "-d", "{", code=22)[0], 400)

    def test_keys(self):
        for headers in ([], ["-H", "Authorization: Bearer sk-wrong"], ["-H", "Authorization: Basic c2stcmlnaHQ6"], ["-H", "x-api-key: sk-wrong"]):
            status, told, body = self.curl("/v1/models", *headers, key=None)
            self.assertEqual((status, told["www-authenticate"], json.loads(body)["error"]["code"]), (401, "Bearer", "invalid_api_key"), headers)
        for headers in (["-H", f"Authorization: Bearer {KEY}"], ["-H", f"authorization: bearer {KEY}"], ["-H", f"x-api-key: {KEY}"], ["--oauth2-bearer", KEY]):
            self.assertEqual(self.curl("/v1/models", *headers, key=None)[0], 200, headers)
        self.assertEqual(self.curl("/health", key=None)[0], 200)

    def test_routes_and_methods(self):
        status, _, body = self.curl("/v1/nothing", "-d", "{}")
        self.assertEqual((status, json.loads(body)["error"]["code"]), (404, "not_found"))
        for flags, allowed in ((["-X", "DELETE"], "GET"), (["-d", "{}"], "GET")):
            status, headers, _ = self.curl("/v1/models", *flags)
            self.assertEqual((status, headers["allow"]), (405, allowed))
        _, whole, body = self.curl("/v1/models")
        status, headers, nothing = self.curl("/v1/models", "--head")
        self.assertEqual((status, nothing), (200, self.headers))  # which curl prints
        self.assertEqual(headers["content-length"], str(len(body)))
        self.assertEqual(headers["content-type"], whole["content-type"])
        self.assertEqual(self.curl("/v1/chat/completions", "--head")[0], 405)
        self.assertEqual(self.curl("/", "--head", key=None)[0], 200)

    def test_bodies_that_are_too_large(self):
        large = json.dumps({**CHAT, "user": "a" * (17 << 20)}).encode()
        # With Expect, which curl sends of itself beyond a megabyte, and without; in one piece or many.
        for flags, asked in (([], True), (["-H", "Expect:"], False), (["-H", "Transfer-Encoding: chunked", "-H", "Expect:"], False)):
            with self.subTest(flags=flags):
                begin = time.monotonic()
                status, headers, body = self.curl("/v1/chat/completions", *flags, "--data-binary", "@-", stdin=large)
                self.assertEqual(status, 413, body)
                error = json.loads(body)["error"]
                self.assertRegex(error["message"], r"larger than \d+ bytes")
                self.assertEqual(error["type"], "invalid_request_error")
                if asked:
                    self.assertNotIn(100, self.statuses)  # it is not sent for nothing
                self.assertLess(time.monotonic() - begin, 30)
        # Nor is one sent without a key.
        status, _, _ = self.curl("/v1/chat/completions", "--data-binary", "@-", stdin=large, key="sk-wrong")
        self.assertEqual((status, 100 in self.statuses), (401, False))
        self.assertEqual(self.curl("/health")[0], 200)

    def test_expect_100_continue(self):
        fits = json.dumps({**CHAT, "user": "a" * (2 << 20)}).encode()
        status, _, body = self.curl("/v1/chat/completions", "--data-binary", "@-", stdin=fits)
        self.assertEqual((status, self.statuses), (200, [100, 200]), body)
        begin = time.monotonic()
        status, _, _ = self.curl("/v1/chat/completions", "-H", "Expect: 100-continue", "--expect100-timeout", 50, "-d", json.dumps(CHAT))
        self.assertEqual((status, self.statuses), (200, [100, 200]))
        self.assertLess(time.monotonic() - begin, 40)  # it was told to go on


@unittest.skipUnless(shutil.which("openssl"), "no openssl to make a certificate with (Debian: apt-get install openssl)")
class CurlTls(Curl):
    """All of it through TLS, of which curl checks the certificate."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cert, cls.other = (cls.certificate(folder.name, name) for name in ("cert", "other"))
        cls.TRUST = ("--cacert", cert)
        cls.server = Server("--streams", 2, "--alias", "tiny", "--api-key", KEY, "--tls-cert", cert, "--tls-key", f"{cert}.key", scheme="https")
        cls.url = f"https://localhost:{cls.server.port}"

    @staticmethod
    def certificate(folder, name):
        path = f"{folder}/{name}.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{path}.key", "-out", path,
                        "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
        return path

    def test_whom_it_does_not_know_it_does_not_ask(self):
        untrusted = [CURL, "--silent", "--noproxy", "*", "--max-time", "20"]
        for flags in ([], ["--cacert", self.other]):
            self.assertEqual(subprocess.run([*untrusted, *flags, self.url + "/health"], capture_output=True).returncode, 60)
        # The name is checked as well; --insecure is for who must; plain HTTP gets no answer.
        by_address = self.url.replace("localhost", "127.0.0.1")
        self.assertEqual(subprocess.run([*untrusted, *self.TRUST, by_address + "/health"], capture_output=True).returncode, 60)
        self.assertEqual(subprocess.run([*untrusted, "--insecure", by_address + "/health"], capture_output=True).returncode, 0)
        self.assertNotEqual(subprocess.run([*untrusted, self.url.replace("https", "http") + "/health"], capture_output=True).returncode, 0)
        for flag, code in (("--tls-max", "1.1"), 35), (("--tlsv1.2",), 0):
            self.assertEqual(subprocess.run([*untrusted, *self.TRUST, *flag, self.url + "/health"], capture_output=True).returncode, code, flag)

if __name__ == "__main__":
    support.main()
