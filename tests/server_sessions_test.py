"""Sessions of venturi serve and chat: saved, restored by a server that was started anew, the same bytes as without; what is
damaged or another model's is refused and changes nothing."""
import concurrent.futures
import json
import os
import tempfile
import unittest
from pathlib import Path

import support
from server_test import Server
from support import MODEL, venturi

OTHER = support.SOURCE / "tests" / "data" / "models" / "llama-plain.gguf"
# Their states share no pages: windows that have moved on, a recurrent state.
WHOLE = [support.SOURCE / "tests" / "data" / "models" / f"{name}.gguf" for name in ("llama-window", "gemma2-plain", "gemma3-plain", "mamba2-plain")]
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
        for options in ({}, {"model": WHOLE[-1], "context": 64}):
            server = self.start("--no-prefix-cache", **options)
            self.assertIn("prefixes", self.ask(server, "/sessions/save", {"session": "a", "prompt": "a"}, 400)["error"]["message"])
            server.stop()
        outcome = venturi("serve", "--port", 0, "--session-dir", self.folder / "nowhere")
        self.assertEqual(outcome.code, 2, outcome)


class StatesKeptWhole(SessionsTest):
    """Of models whose states share no pages. Longer than every window, so that pages are gone."""
    TALK = [5 + i * 37 % 250 for i in range(90)]
    MORE = [*TALK, 17, 99, 23]

    def go_on(self, server, tokens=MORE, **more):
        answer = self.ask(server, "/v1/completions", {"prompt": tokens, "max_tokens": 20, "temperature": 0.8, "seed": 11, "ignore_eos": True,
                                                      "logprobs": 2, **more})
        choice = answer["choices"][0]
        return choice["text"], choice["logprobs"]["token_logprobs"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    def alone(self, model, tokens=MORE, **more):
        server = self.start("--no-prefix-cache", model=model, context=128)
        text, logprobs, cached = self.go_on(server, tokens, **more)
        self.assertEqual(cached, 0)
        server.stop()
        return text, logprobs

    def test_a_conversation_goes_on_after_a_restart_with_the_same_bytes(self):
        for model in WHOLE:
            with self.subTest(model=model.stem):
                wanted = self.alone(model)
                server = self.start(model=model, context=128)
                saved = self.ask(server, "/sessions/save", {"session": "a", "prompt": self.TALK})
                self.assertEqual((saved["tokens"], saved["bytes"]), (len(self.TALK), (self.folder / "a.session").stat().st_size))
                self.assertEqual(self.go_on(server), (*wanted, len(self.TALK)))  # it is still there
                server.stop()
                server = self.start(model=model, context=128)
                self.assertEqual(self.ask(server, "/sessions/restore", {"session": "a"})["tokens"], len(self.TALK))
                self.assertEqual(self.go_on(server), (*wanted, len(self.TALK)))
                self.assertEqual(server.metric("vllm:prefix_cache_hits_total"), len(self.TALK))
                self.assertEqual(server.metric("vllm:kv_cache_usage_perc"), 0)
                server.stop()

    def test_a_second_turn_finds_the_first(self):
        for model in WHOLE:
            with self.subTest(model=model.stem):
                server = self.start(model=model, context=128)
                first, _, _ = self.go_on(server, self.TALK, max_tokens=1)
                self.assertEqual(self.go_on(server)[2], len(self.TALK))
                # Only who begins with all of it.
                self.assertEqual(self.go_on(server, self.TALK[:80])[2], 0)
                self.assertEqual(self.go_on(server, self.TALK, max_tokens=1)[0], first)
                server.stop()

    def test_places_are_for_streams_first(self):
        model = WHOLE[-1]
        others = [[7 + i] * 70 for i in range(5)]
        wanted, alone = self.alone(model), [self.alone(model, tokens) for tokens in others]
        server = self.start(model=model, context=128)
        self.ask(server, "/sessions/save", {"session": "a", "prompt": self.TALK})
        for _ in range(3):
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                streams = [pool.submit(self.go_on, server, tokens) for tokens in others]
                restored = pool.submit(self.ask, server, "/sessions/restore", {"session": "a"})
                saved = pool.submit(self.ask, server, "/sessions/save", {"session": "b", "prompt": self.TALK[:80]})
                self.assertEqual([stream.result()[:2] for stream in streams], alone)
                self.assertEqual(restored.result()["tokens"], len(self.TALK))
                self.assertEqual(saved.result()["tokens"], 80)
            self.assertEqual(self.go_on(server)[:2], wanted)

    def test_damage_and_strangers_change_nothing(self):
        for model in WHOLE[-2:]:
            with self.subTest(model=model.stem):
                wanted = self.alone(model)
                server = self.start(model=model, context=128)
                self.ask(server, "/sessions/save", {"session": "a", "prompt": self.TALK})
                path = self.folder / "a.session"
                whole = path.read_bytes()
                half = len(whole) // 2
                for damaged in (whole[:-1], whole[:100], whole[:half] + bytes([whole[half] ^ 4]) + whole[half + 1:], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]):
                    path.write_bytes(damaged)
                    self.assertEqual(self.ask(server, "/sessions/restore", {"session": "a"}, 422)["error"]["code"], "session_damaged")
                self.assertEqual(self.go_on(server), (*wanted, len(self.TALK)))  # what was there before is there
                path.write_bytes(whole)
                server.stop()
                other = self.start(model=WHOLE[0], context=128)
                self.assertEqual(self.ask(other, "/sessions/restore", {"session": "a"}, 409)["error"]["code"], "session_of_another_model")
                other.stop()


class Adapters(SessionsTest):
    """A session is of the adapter that computed it, whatever that is called."""
    TALK, MORE = StatesKeptWhole.TALK, StatesKeptWhole.MORE
    FOLDER = support.SOURCE / "tests" / "data" / "adapters"

    def start(self, *names, model=OTHER, **options):
        flags = [part for name in names for part in ("--lora", name if "=" in name else f"{name}={self.FOLDER / f'llama-{name}'}")]
        return super().start(*flags, "--alias", "m", **{"model": model, "context": 128, **options})

    def complete(self, server, adapter, tokens=MORE):
        answer = self.ask(server, "/v1/completions", {"model": f"m:{adapter}" if adapter else "m", "prompt": tokens, "max_tokens": 16, "temperature": 0,
                                                      "ignore_eos": True, "logprobs": 1})
        choice = answer["choices"][0]
        return (choice["text"], choice["logprobs"]["token_logprobs"]), answer["usage"].get("prompt_tokens_details", {}).get("cached_tokens", 0)

    def test_a_conversation_goes_on_under_its_adapter_and_no_other(self):
        server = self.start("all", "ffn")
        wanted = {adapter: self.complete(server, adapter)[0] for adapter in ("", "all", "ffn")}
        self.assertEqual(len({text for text, _ in wanted.values()}), 3)
        for adapter in ("all", ""):
            saved = self.ask(server, "/sessions/save", {"model": f"m:{adapter}" if adapter else "m", "session": adapter or "alone", "prompt": self.TALK})
            self.assertEqual((saved["tokens"], saved["model"]), (len(self.TALK), f"m:{adapter}" if adapter else "m"))
        server.stop()

        server = self.start("all", "ffn")
        for model, session, code, of in (("m", "all", "session_of_another_adapter", "m:all"), ("m:ffn", "all", "session_of_another_adapter", "m:all"),
                                         ("m:all", "alone", "session_of_another_adapter", "m")):
            error = self.ask(server, "/sessions/restore", {"model": model, "session": session}, 409)["error"]
            self.assertEqual((error["code"], error["param"]), (code, "session"))
            self.assertIn(f'"model": "{of}"', error["message"])
        restored = self.ask(server, "/sessions/restore", {"model": "m:all", "session": "all"})
        self.assertEqual((restored["tokens"], restored["model"]), (len(self.TALK), "m:all"))
        for adapter in ("", "ffn"):  # it is in the cache, and not theirs
            self.assertEqual(self.complete(server, adapter), (wanted[adapter], 0))
        again, cached = self.complete(server, "all")
        self.assertEqual(again, wanted["all"])
        self.assertGreaterEqual(cached, len(self.TALK) - 1)
        server.stop()

        # Under another name it is the same one; where it is not served, or is scaled, nobody's.
        path = self.FOLDER / "llama-all"
        server = self.start(f"poet={path}")
        self.ask(server, "/sessions/restore", {"model": "m:poet", "session": "all"})
        again, cached = self.complete(server, "poet")
        self.assertEqual((again, cached >= len(self.TALK) - 1), (wanted["all"], True))
        server.stop()
        for adapters, models in ((["ffn"], ("m", "m:ffn")), ([f"all={path}=0.5"], ("m", "m:all"))):
            server = self.start(*adapters)
            for model in models:
                self.assertEqual(self.ask(server, "/sessions/restore", {"model": model, "session": "all"}, 409)["error"]["code"], "session_of_another_model")
            server.stop()

    def test_states_that_are_kept_whole(self):
        for name in ("mamba2", "gemma3"):
            with self.subTest(model=name):
                start = lambda: self.start(f"all={self.FOLDER / f'{name}-all'}", model=support.SOURCE / "tests" / "data" / "models" / f"{name}-plain.gguf")
                server = start()
                wanted = {adapter: self.complete(server, adapter)[0] for adapter in ("", "all")}
                server.stop()
                server = start()
                self.ask(server, "/sessions/save", {"model": "m:all", "session": name, "prompt": self.TALK})
                server.stop()
                server = start()
                self.assertEqual(self.ask(server, "/sessions/restore", {"session": name}, 409)["error"]["code"], "session_of_another_adapter")
                self.ask(server, "/sessions/restore", {"model": "m:all", "session": name})
                self.assertEqual(self.complete(server, ""), (wanted[""], 0))
                self.assertEqual(self.complete(server, "all"), (wanted["all"], len(self.TALK)))
                server.stop()

    def test_damage_changes_nothing(self):
        server = self.start("all")
        wanted, _ = self.complete(server, "all")
        self.ask(server, "/sessions/save", {"model": "m:all", "session": "a", "prompt": self.TALK})
        server.stop()
        path = self.folder / "a.session"
        whole = path.read_bytes()
        half = len(whole) // 2
        server = self.start("all")
        for damaged in (whole[:-1], whole[:100], whole[:half] + bytes([whole[half] ^ 4]) + whole[half + 1:], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]):
            path.write_bytes(damaged)
            self.assertEqual(self.ask(server, "/sessions/restore", {"model": "m:all", "session": "a"}, 422)["error"]["code"], "session_damaged")
        path.write_bytes(whole[:16] + bytes([whole[16] ^ 1]) + whole[17:])
        self.assertEqual(self.ask(server, "/sessions/restore", {"model": "m:all", "session": "a"}, 409)["error"]["code"], "session_of_another_model")
        self.assertEqual(self.complete(server, "all"), (wanted, 0))


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
