"""Several models in one venturi serve: found by name on every route, loaded when they are asked for, unloaded when idle or
in another's way, all within one budget."""
import concurrent.futures
import json
import re
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import support
from server_test import PROMPT, Server
from support import MODEL, venturi

BERT = support.SOURCE / "tests" / "data" / "models" / "bert-mean.gguf"


def serve(*flags, models=("one=" + str(MODEL), "two=" + str(MODEL)), context=256):
    """A server of several models; `Server` gives the first."""
    more = [part for model in models[1:] for part in ("-m", model)]
    return Server(*more, *flags, model=models[0], context=context)


class ModelsTest(unittest.TestCase):
    maxDiff = None

    def start(self, *flags, **options):
        server = serve(*flags, **options)
        self.addCleanup(lambda: self.assertEqual(server.stop(), 0))
        return server

    def states(self, server, headers=None):
        status, answer, _ = server.ask("GET", "/v1/models", headers=headers)
        self.assertEqual(status, 200, answer)
        return {m["id"]: m["status"]["value"] for m in answer["data"]}

    def complete(self, server, model, status=200, **more):
        body = {"prompt": PROMPT, "temperature": 0, "max_tokens": 8, "ignore_eos": True, **more}
        if model is not None:
            body["model"] = model
        got, answer, headers = server.ask("POST", "/v1/completions", body)
        self.assertEqual(got, status, answer)
        return (answer, headers) if status != 200 else answer


class Names(ModelsTest):
    def test_each_route_finds_its_model_and_loads_it(self):
        server = self.start("--streams", 2, models=("one=" + str(MODEL), "two=" + str(MODEL), "vectors=" + str(BERT)), context=64)
        self.assertEqual(self.states(server), {"one": "loaded", "two": "unloaded", "vectors": "unloaded"})
        messages = [{"role": "user", "content": "Hm"}]
        for path, body in (("/v1/completions", {"prompt": "Hm", "max_tokens": 2}), ("/v1/chat/completions", {"messages": messages, "max_tokens": 2}),
                           ("/v1/messages", {"messages": messages, "max_tokens": 2}), ("/v1/responses", {"input": "Hm", "max_output_tokens": 2}),
                           ("/api/chat", {"messages": messages, "stream": False, "options": {"num_predict": 2}}),
                           ("/api/generate", {"prompt": "Hm", "stream": False, "options": {"num_predict": 2}})):
            with self.subTest(path=path):
                for name in ("two", "one"):
                    status, answer, _ = server.ask("POST", path, {**body, "model": name})
                    self.assertEqual((status, answer.get("model")), (200, name), answer)
                status, answer, _ = server.ask("POST", path, body)
                self.assertEqual((status, answer.get("model")), (200, "one"), answer)
                status, answer, _ = server.ask("POST", path, {**body, "model": "nobody"})
                self.assertEqual(status, 404, answer)
                self.assertIn("nobody", json.dumps(answer))
                self.assertEqual(server.ask("POST", path, {**body, "model": ["one"]})[0], 400)
        status, answer, _ = server.ask("POST", "/v1/embeddings", {"model": "vectors", "input": "a"})
        self.assertEqual((status, answer["model"]), (200, "vectors"))
        for path, body in (("/tokenize", {"content": "a"}), ("/detokenize", {"tokens": [5]})):
            self.assertEqual(server.ask("POST", path, {**body, "model": "two"})[0], 200)
            self.assertEqual(server.ask("POST", path, {**body, "model": "nobody"})[0], 404)
        self.assertEqual(set(self.states(server).values()), {"loaded"})
        self.assertEqual([m["name"] for m in server.ask("GET", "/api/tags")[1]["models"]], ["one", "two", "vectors"])
        self.assertEqual([m["name"] for m in server.ask("GET", "/status")[1]["models"]], ["one", "two", "vectors"])

    def test_an_unknown_model_is_refused_as_openai_does(self):
        server = self.start()
        error = self.complete(server, "nobody", 404)[0]["error"]
        self.assertEqual((error["type"], error["code"]), ("invalid_request_error", "model_not_found"))
        self.complete(server, "one:adapter", 404)

    def test_both_answer_at_once_as_alone(self):
        server = self.start("--streams", 4)
        alone = [self.complete(server, name, max_tokens=24)["choices"][0]["text"] for name in ("one", "two")]
        self.assertEqual(alone[0], alone[1])
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            many = list(pool.map(lambda i: self.complete(server, ("one", "two")[i % 2], max_tokens=24)["choices"][0]["text"], range(16)))
        self.assertEqual(set(many), {alone[0]})

    def test_wrong_command_lines(self):
        for flags, says in ((["-m", MODEL, "-m", MODEL], "named"), (["-m", f"=x"], "name"), (["-m", "a b=x"], "name"),
                            (["-m", f"a={MODEL}", "-m", f"b={MODEL}", "--alias", "c"], "--alias"),
                            (["-m", f"a={MODEL}", "-m", f"b={MODEL}", "--draft-model", MODEL], "--draft-model")):
            outcome = venturi("serve", "--port", 0, *flags, timeout=60)
            self.assertEqual(outcome.code, 2, outcome)
            self.assertIn(says, outcome.err)
        outcome = venturi("serve", "--port", 0, "-m", f"a={MODEL}", "-m", "b=/nowhere.gguf", timeout=60)
        self.assertEqual(outcome.code, 1, outcome)

    def test_a_file_with_a_sign_in_its_name_is_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a=b.gguf"
            shutil.copy(MODEL, path)
            server = self.start(models=(str(path), "c=" + str(path)))
            self.assertEqual(list(self.states(server)), ["a=b", "c"])


class Memory(ModelsTest):
    def budget(self, models):
        """Bytes for so many of the tiny model at the flags below, from what one holds."""
        server = serve("--streams", 1, models=(str(MODEL),))
        try:
            text = server.ask("GET", "/metrics")[1]
            return int(float(re.search(r"^venturi_memory_peak_bytes\{.*\} (\S+)$", text, re.M).group(1)) * models)
        finally:
            server.stop()

    def test_the_least_recently_used_makes_room_and_nobody_passes_the_budget(self):
        limit = self.budget(2.4)
        server = self.start("--streams", 1, "--memory", limit, models=[f"{name}={MODEL}" for name in "abc"])
        first = self.complete(server, "a")["choices"][0]["text"]
        self.complete(server, "b")
        self.assertEqual(self.states(server), {"a": "loaded", "b": "loaded", "c": "unloaded"})
        self.complete(server, "a")
        self.assertEqual(self.complete(server, "c")["choices"][0]["text"], first)
        self.assertEqual(self.states(server), {"a": "loaded", "b": "unloaded", "c": "loaded"})
        text = server.ask("GET", "/metrics")[1]
        self.assertLessEqual(float(re.search(r"^venturi_memory_peak_bytes (\S+)$", text, re.M).group(1)), limit)
        samples = dict(re.findall(r'^venturi_model_loads_total\{model_name="(.)"\} (\S+)$', text, re.M))
        self.assertEqual({k: float(v) for k, v in samples.items()}, {"a": 1, "b": 1, "c": 1})
        self.assertIn('venturi_model_unloads_total{model_name="b"} 1', text)

    def test_what_runs_is_not_unloaded_and_who_waits_is_told(self):
        limit = self.budget(1.4)
        server = self.start("--streams", 1, "--memory", limit, "--load-timeout", 1, models=[f"{name}={MODEL}" for name in "ab"])
        # One request after another keeps the model in use for longer than the other's waits.
        stop = time.monotonic() + 3
        def keep_busy():
            while time.monotonic() < stop:
                self.complete(server, "a", max_tokens=200)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            busy = [pool.submit(keep_busy) for _ in range(2)]
            time.sleep(0.5)
            answer, headers = self.complete(server, "b", 503)
            for one in busy:
                one.result()
        self.assertIn("not loaded within", answer["error"]["message"])
        self.assertGreater(int(headers["Retry-After"]), 0)
        self.complete(server, "b")
        self.assertEqual(self.states(server), {"a": "unloaded", "b": "loaded"})

    def test_what_cannot_fit_ends_the_program_with_what_would(self):
        outcome = venturi("serve", "--port", 0, "-c", 256, "--memory", "300k", "-m", f"a={MODEL}", "-m", f"b={MODEL}", timeout=60)
        self.assertEqual(outcome.code, 3, outcome)
        self.assertRegex(outcome.err, r"Give --memory \d+M or more")


class Operators(ModelsTest):
    def test_load_and_unload_behind_the_key(self):
        with tempfile.NamedTemporaryFile("w") as keys:
            keys.write("the-key\n")
            keys.flush()
            server = self.start("--api-key-file", keys.name)
        key = {"Authorization": "Bearer the-key"}
        for path in ("/models/load", "/models/unload", "/v1/models"):
            self.assertEqual(server.ask("GET" if path == "/v1/models" else "POST", path, {"model": "two"})[0], 401)
        status, answer, _ = server.ask("POST", "/models/load", {"model": "two"}, key)
        self.assertEqual((status, answer["id"], answer["status"]), (200, "two", {"value": "loaded"}))
        status, answer, _ = server.ask("POST", "/models/unload", {"model": "one"}, key)
        self.assertEqual((status, answer["status"]), (200, {"value": "unloaded"}))
        self.assertEqual(self.states(server, key), {"one": "unloaded", "two": "loaded"})
        self.assertEqual(server.ask("POST", "/models/unload", {"model": "one"}, key)[0], 200)
        for path in ("/models/load", "/models/unload"):
            self.assertEqual(server.ask("POST", path, {"model": "nobody"}, key)[0], 404)
        self.assertEqual(server.ask("POST", "/models/unload", {}, key)[0], 400)
        stream = server.connect()
        stream.request("POST", "/v1/completions", json.dumps({"model": "two", "prompt": PROMPT, "max_tokens": 220, "stream": True, "ignore_eos": True}), key)
        response = stream.getresponse()
        self.assertEqual(response.status, 200)
        status, answer, _ = server.ask("POST", "/models/unload", {"model": "two"}, key)
        if status != 200:  # it still ran
            self.assertEqual((status, answer["error"]["code"]), (409, "model_busy"), answer)
        self.assertIn("[DONE]", response.read().decode())

    def test_an_idle_model_goes_and_comes_back(self):
        server = self.start("--idle-timeout", 0.3, models=(str(MODEL),))
        name = MODEL.stem
        before = self.complete(server, name)["choices"][0]["text"]
        end = time.monotonic() + 30
        while self.states(server)[name] != "unloaded" and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(self.states(server), {name: "unloaded"})
        held = server.ask("GET", "/status")[1]["memory"]["held"]
        self.assertEqual(held, 0)
        self.assertEqual(server.ask("GET", "/metrics")[0], 200)
        self.assertEqual(self.complete(server, name)["choices"][0]["text"], before)

    def test_ollamas_clients_load_and_unload(self):
        server = self.start()
        def settles(states):
            end = time.monotonic() + 30
            while self.states(server) != states and time.monotonic() < end:
                time.sleep(0.05)
            self.assertEqual(self.states(server), states)
        ask = lambda path, **body: server.ask("POST", path, {"stream": False, "options": {"num_predict": 3}, **body})[:2]
        status, answer = ask("/api/generate", model="two")
        self.assertEqual((status, answer["done"], answer["done_reason"], answer["response"]), (200, True, "load", ""))
        settles({"one": "loaded", "two": "loaded"})
        status, answer = ask("/api/chat", model="two", messages=[], keep_alive=0)
        self.assertEqual((status, answer["done_reason"], answer["message"]), (200, "unload", {"role": "assistant", "content": ""}))
        settles({"one": "loaded", "two": "unloaded"})
        for keep, state in (("0s", "unloaded"), ("10m", "loaded"), (300, "loaded"), (-1, "loaded"), ("0", "unloaded")):
            status, answer = ask("/api/generate", model="two", prompt="Hm", keep_alive=keep)
            self.assertEqual((status, answer["model"]), (200, "two"), answer)
            settles({"one": "loaded", "two": state})
        # Who asks again before it is gone keeps it.
        stream = server.connect()
        stream.request("POST", "/api/generate", json.dumps({"model": "two", "prompt": "Hm", "keep_alive": 0, "options": {"num_predict": 200, "repeat_penalty": 1}}))
        response = stream.getresponse()
        response.readline()
        self.complete(server, "two")
        response.read()
        settles({"one": "loaded", "two": "loaded"})

    def counters(self, server):
        text = server.ask("GET", "/metrics")[1]
        kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
        samples = {}
        for line in text.splitlines():
            sample, _, value = line.rpartition(" ")
            name = sample.partition("{")[0]
            if kinds.get(name) == "counter" or kinds.get(re.sub("_(count|sum|bucket)$", "", name)) == "histogram":
                samples[sample] = float(value)
        return samples

    def test_counters_never_go_back(self):
        server = self.start("--lookup", models=(str(MODEL), "vectors=" + str(BERT)), context=64)
        name = MODEL.stem
        seen = {}
        for turn in range(3):
            self.complete(server, name, max_tokens=20)
            self.assertEqual(server.ask("POST", "/v1/embeddings", {"model": "vectors", "input": ["a", "b"]})[0], 200)
            for loaded in (True, False):
                now = self.counters(server)
                self.assertLessEqual(set(seen), set(now))
                self.assertEqual([(k, v, now[k]) for k, v in seen.items() if now[k] < v], [])
                seen = now
                if loaded:
                    for model in (name, "vectors"):
                        status, answer, _ = server.ask("POST", "/models/unload", {"model": model})
                        self.assertEqual(status, 200, answer)
        label = f'{{model_name="{name}"}}'
        self.assertEqual(seen["vllm:generation_tokens_total" + label], 60)
        self.assertEqual(seen["venturi_requests_finished_total" + label], 3)
        self.assertGreater(seen["venturi_steps_total" + label], 0)
        self.assertEqual(seen['venturi_embedded_texts_total{model_name="vectors"}'], 6)


if __name__ == "__main__":
    support.main()
