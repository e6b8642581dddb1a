"""Sessions of venturi serve and chat: saved, restored by a server that was started anew, the same bytes as without; what is
damaged or another model's is refused and changes nothing."""
import json
import os
import tempfile
import unittest
from pathlib import Path

import support
from server_test import Server
from support import MODEL, venturi

OTHER = support.SOURCE / "tests" / "data" / "models" / "llama-plain.gguf"
WINDOWED = support.SOURCE / "tests" / "data" / "models" / "gemma3-plain.gguf"
TALK = [{"role": "user", "content": "Once there was a fox who lived at the edge of a dark wood. Who was he?"}]


class SessionsTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def start(self, *flags, **options):
        server = Server("--streams", 2, "--session-dir", self.folder, *flags, **{"context": 512, **options})
        self.addCleanup(server.stop)
        return server

    def ask(self, server, path, body, status=200):
        got, answer, _ = server.ask("POST", path, body)
        self.assertEqual(got, status, answer)
        return answer

    def say(self, server, messages, **more):
        answer = self.ask(server, "/v1/chat/completions", {"messages": messages, "max_tokens": 40, "temperature": 0.8, "seed": 7, "ignore_eos": True, **more})
        return answer["choices"][0]["message"]["content"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]


class Routes(SessionsTest):
    def test_a_conversation_goes_on_after_a_restart_with_the_same_bytes(self):
        server = self.start()
        first, _ = self.say(server, TALK)
        talk = [*TALK, {"role": "assistant", "content": first}]
        saved = self.ask(server, "/sessions/save", {"session": "fox-1", "messages": talk})
        self.assertEqual(saved["bytes"], (self.folder / "fox-1.session").stat().st_size)
        self.assertEqual(server.ask("GET", "/sessions")[1], {"sessions": [{"session": "fox-1", "bytes": saved["bytes"]}]})
        more = [*talk, {"role": "user", "content": "And then?"}]
        uninterrupted, _ = self.say(server, more)
        server.stop()

        server = self.start()
        restored = self.ask(server, "/sessions/restore", {"session": "fox-1"})
        self.assertEqual(restored["tokens"], saved["tokens"])
        again, cached = self.say(server, more)
        self.assertEqual(again, uninterrupted)
        # All but what the prompt for an answer adds to the saved conversation.
        self.assertGreater(cached, saved["tokens"] - 16)
        # Without it: the same, all computed.
        server.stop()
        server = self.start()
        self.assertEqual(self.say(server, more), (uninterrupted, 0))
        self.assertEqual(self.ask(server, "/sessions/delete", {"session": "fox-1"}), {"session": "fox-1", "deleted": True})
        self.assertEqual(self.ask(server, "/sessions/restore", {"session": "fox-1"}, 404)["error"]["code"], "session_not_found")
        self.assertEqual(server.ask("GET", "/sessions")[1], {"sessions": []})

    def test_prompts_and_streams_beside_it(self):
        server = self.start()
        ids = self.ask(server, "/tokenize", {"content": "It was the best of times, it was the worst of times. " * 12})["tokens"]
        saved = self.ask(server, "/sessions/save", {"session": "a", "prompt": ids})
        self.assertEqual(saved["tokens"], len(ids))
        self.ask(server, "/sessions/save", {"session": "a", "prompt": ids})  # over the old one
        self.assertEqual(os.listdir(self.folder), ["a.session"])
        server.stop()
        server = self.start()
        alone = self.ask(server, "/v1/completions", {"prompt": "A stream", "max_tokens": 200, "temperature": 0, "ignore_eos": True})["choices"][0]["text"]
        events = server.connect()
        events.request("POST", "/v1/completions", json.dumps({"prompt": "A stream", "max_tokens": 200, "temperature": 0, "ignore_eos": True}))
        for _ in range(3):
            self.ask(server, "/sessions/restore", {"session": "a"})
        self.assertEqual(json.loads(events.getresponse().read())["choices"][0]["text"], alone)
        answer = self.ask(server, "/v1/completions", {"prompt": ids, "max_tokens": 1})
        self.assertEqual(answer["usage"]["prompt_tokens_details"]["cached_tokens"], len(ids) - 1)

    def test_names_stay_in_the_folder(self):
        server = self.start()
        outside = self.folder.parent / "outside.session"
        for name in ("../outside", "..", ".hidden", "a/b", "/etc/passwd", "", "a" * 129, "a\0b", "ü", "a b"):
            for path, body in (("/sessions/save", {"prompt": "a"}), ("/sessions/restore", {}), ("/sessions/delete", {})):
                error = self.ask(server, path, {"session": name, **body}, 400)["error"]
                self.assertEqual(error["param"], "session", name)
        self.assertFalse(outside.exists())
        for body in ({"session": 3, "prompt": "a"}, {"session": "a"}, {"session": "a", "prompt": "a", "messages": TALK}, {"session": "a", "messages": []},
                     {"session": "a", "prompt": ["a", "b"]}, {"session": "a", "prompt": [5] * 600}):
            self.ask(server, "/sessions/save", body, 400)
        self.assertEqual(os.listdir(self.folder), [])

    def test_damage_and_strangers_are_refused(self):
        server = self.start()
        self.ask(server, "/sessions/save", {"session": "a", "messages": TALK})
        path = self.folder / "a.session"
        whole = path.read_bytes()
        damaged = {"session_damaged": [whole[:-1], whole[:100], b"", whole + b"\0", whole[:8] + b"\2" + whole[9:],
                                       whole[:5000] + bytes([whole[5000] ^ 4]) + whole[5001:], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], b"GGUF" * 1000],
                   "session_of_another_model": [whole[:16] + bytes([whole[16] ^ 1]) + whole[17:]]}
        for code, files in damaged.items():
            for bytes_ in files:
                path.write_bytes(bytes_)
                error = self.ask(server, "/sessions/restore", {"session": "a"}, {"session_damaged": 422, "session_of_another_model": 409}[code])["error"]
                self.assertEqual((error["code"], error["param"]), (code, "session"))
        text, _ = self.say(server, TALK)
        path.write_bytes(whole)
        self.ask(server, "/sessions/restore", {"session": "a"})
        self.assertEqual(self.say(server, TALK)[0], text)
        server.stop()
        # Another model, and the same with a smaller context.
        server = self.start(model=OTHER, context=64)
        self.assertEqual(self.ask(server, "/sessions/restore", {"session": "a"}, 409)["error"]["code"], "session_of_another_model")

    def test_where_there_are_none(self):
        server = Server("--streams", 1)
        try:
            for path in ("/sessions/save", "/sessions/restore"):
                self.assertIn("--session-dir", self.ask(server, path, {"session": "a", "prompt": "a"}, 400)["error"]["message"])
        finally:
            server.stop()
        for flags, options in ((["--no-prefix-cache"], {}), ([], {"model": WINDOWED, "context": 64})):
            server = self.start(*flags, **options)
            self.assertIn("prefixes", self.ask(server, "/sessions/save", {"session": "a", "prompt": "a"}, 400)["error"]["message"])
            server.stop()
        outcome = venturi("serve", "--port", 0, "--session-dir", self.folder / "nowhere")
        self.assertEqual(outcome.code, 2, outcome)


class Chat(SessionsTest):
    def chat(self, lines, *flags, code=0):
        outcome = venturi("chat", "-m", MODEL, "-c", 512, "-n", 30, "--temp", 0.8, "--seed", 5, "-t", 2, "-q", *flags, stdin="".join(line + "\n" for line in lines))
        self.assertEqual(outcome.code, code, outcome)
        return outcome.out if code == 0 else outcome.err

    def test_goes_on_with_the_same_bytes(self):
        lines = ["Who came in?", "And then?", "Why?"]
        whole = self.chat(lines)
        session = self.folder / "talk"
        parts = self.chat(lines[:1], "--session", session) + self.chat(lines[1:2], "--session", session) + self.chat(lines[2:], "--session", session)
        self.assertEqual(parts, whole)

    def test_damage_and_strangers(self):
        session = self.folder / "talk"
        self.chat(["Hm"], "--session", session, "--system", "Be short.")
        whole = session.read_bytes()
        self.assertIn("system message", self.chat(["Hm"], "--session", session, "--system", "Be long.", code=2))
        session.write_bytes(whole[:-20])
        self.assertIn("damaged", self.chat(["Hm"], "--session", session, code=1))
        self.assertEqual(session.read_bytes(), whole[:-20])
        session.write_bytes(whole)
        self.assertEqual(venturi("chat", "-m", OTHER, "-c", 64, "--session", session, stdin="Hm\n").code, 1)
        self.assertEqual(session.read_bytes(), whole)


if __name__ == "__main__":
    support.main()
