"""LoRA adapters of venturi serve: named by `model: "base:adapter"`, mixed in one batch, each as if it were alone."""
import concurrent.futures
import unittest

import support
from server_test import Server
from support import SOURCE, ProgramTest, venturi

BASE = SOURCE / "tests/data/models/llama-plain.gguf"
ADAPTERS = SOURCE / "tests/data/adapters"
NAMES = {"every": ADAPTERS / "llama-all", "attention": ADAPTERS / "llama-attention", "ffn": ADAPTERS / "llama-ffn"}
FLAGS = [part for name, path in NAMES.items() for part in ("--lora", f"{name}={path}")]
PROMPTS = ["the house", "It was the best of times", "a road by the river and", "x"]


def alone(prompt, adapter):
    flags = ["--lora", NAMES[adapter]] if adapter else []
    outcome = venturi("run", "-m", BASE, "-p", prompt, "-n", 16, "--temp", 0, "--ignore-eos", "-c", 128, "-q", *flags)
    assert outcome.code == 0, outcome
    return lines(outcome.out[len(prompt):])


def lines(text):
    """As a file read as text has it, whatever ends it."""
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")


class Adapters(ProgramTest):
    def start(self, *flags, **options):
        server = Server(*FLAGS, *flags, model=BASE, context=128, **options)
        self.addCleanup(lambda: self.assertEqual(server.stop(), 0))
        return server

    def complete(self, server, adapter, prompt, **more):
        model = f"llama-plain:{adapter}" if adapter else "llama-plain"
        status, answer, _ = server.ask("POST", "/v1/completions", {"model": model, "prompt": prompt, "max_tokens": 16, "temperature": 0,
                                                                  "ignore_eos": True, **more})
        self.assertEqual((status, answer.get("model")), (200, model), answer)
        return answer

    def test_each_gets_what_it_gets_alone(self):
        asked = [(prompt, adapter) for prompt in PROMPTS for adapter in (None, *NAMES)]
        expected = {pair: alone(*pair) for pair in asked}
        self.assertEqual(len({expected["the house", adapter] for adapter in (None, *NAMES)}), 4)
        for flags in ([], ["--lookup"], ["--streams", 3]):
            with self.subTest(flags=flags):
                server = self.start(*flags)
                with concurrent.futures.ThreadPoolExecutor(16) as pool:
                    answers = list(pool.map(lambda pair: lines(self.complete(server, pair[1], pair[0])["choices"][0]["text"]), asked * 2))
                self.assertEqual(answers, [expected[pair] for pair in asked] * 2)

    def test_without_a_name_it_is_called_as_its_file(self):
        for given, scale in ((NAMES["ffn"], ""), (NAMES["ffn"], "=1")):
            server = Server("--lora", f"{given}{scale}", model=BASE, context=128)
            try:
                self.assertEqual(lines(self.complete(server, "llama-ffn", "the house")["choices"][0]["text"]), alone("the house", "ffn"))
            finally:
                self.assertEqual(server.stop(), 0)

    def test_the_cache_is_of_one_adapter(self):
        server = self.start()
        prompt = "the house and the road " * 4
        first = {adapter: self.complete(server, adapter, prompt) for adapter in (None, *NAMES)}
        for adapter, answer in first.items():
            self.assertEqual(answer["usage"].get("prompt_tokens_details", {}).get("cached_tokens", 0), 0, adapter)
            again = self.complete(server, adapter, prompt)
            self.assertGreater(again["usage"]["prompt_tokens_details"]["cached_tokens"], 30, adapter)
            self.assertEqual(again["choices"][0]["text"], answer["choices"][0]["text"])

    def test_every_api_names_them(self):
        server = self.start()
        listed = [m["id"] for m in server.ask("GET", "/v1/models")[1]["data"]]
        self.assertEqual(listed, ["llama-plain", *(f"llama-plain:{name}" for name in NAMES)])
        self.assertEqual([m["name"] for m in server.ask("GET", "/status")[1]["models"]], listed)  # what the page offers
        messages, model = [{"role": "user", "content": "Hm"}], "llama-plain:ffn"
        for path, body in (("/v1/completions", {"prompt": "Hm", "max_tokens": 2}), ("/v1/chat/completions", {"messages": messages, "max_tokens": 2}),
                           ("/v1/messages", {"messages": messages, "max_tokens": 2}), ("/v1/responses", {"input": "Hm", "max_output_tokens": 2}),
                           ("/api/chat", {"messages": messages, "stream": False, "options": {"num_predict": 2}}),
                           ("/api/generate", {"prompt": "Hm", "stream": False, "options": {"num_predict": 2}})):
            with self.subTest(path=path):
                status, answer, _ = server.ask("POST", path, {**body, "model": model})
                self.assertEqual((status, answer.get("model")), (200, model), answer)
                for unknown in ("llama-plain:nobody", "llama-plain:", "nobody:ffn", "ffn"):
                    self.assertEqual(server.ask("POST", path, {**body, "model": unknown})[0], 404, unknown)
        status, answer, _ = server.ask("POST", "/v1/embeddings", {"model": model, "input": "a"})
        self.assertEqual(status, 400, answer)

    def test_streams_and_seeds(self):
        server = self.start()
        body = {"model": "llama-plain:every", "prompt": "the", "max_tokens": 8, "temperature": 1, "seed": 5, "n": 2, "ignore_eos": True}
        whole = server.ask("POST", "/v1/completions", body)[1]["choices"]
        self.assertEqual(server.ask("POST", "/v1/completions", body)[1]["choices"], whole)
        events = server.events("/v1/completions", {**body, "stream": True})
        self.assertEqual(events[-1], "[DONE]")

    def test_of_several_models(self):
        server = Server("-m", f"two={BASE}", "--lora", f"two:ffn={NAMES['ffn']}", "--lora", f"every={NAMES['every']}", model=f"one={BASE}",
                        context=128)
        self.addCleanup(lambda: self.assertEqual(server.stop(), 0))
        for model, adapter in (("one:every", "every"), ("two:ffn", "ffn"), ("two", None)):
            status, answer, _ = server.ask("POST", "/v1/completions", {"model": model, "prompt": "the house", "max_tokens": 16, "temperature": 0,
                                                                      "ignore_eos": True})
            self.assertEqual((status, lines(answer["choices"][0]["text"])), (200, alone("the house", adapter)), model)
        for model in ("one:ffn", "two:every"):
            self.assertEqual(server.ask("POST", "/v1/completions", {"model": model, "prompt": "a"})[0], 404)

    def test_wrong_command_lines(self):
        serve = ["serve", "-m", BASE, "--port", 0, "--lora"]
        self.assertIn("NAME=PATH", self.fails(2, *serve, "not a name=some/path"))
        self.assertIn("no model other", self.fails(2, *serve, f"other:a={NAMES['ffn']}"))
        self.assertIn("two adapters are called", self.fails(2, *serve, f"a={NAMES['ffn']}", "--lora", f"a={NAMES['every']}"))
        self.assertIn("no-such", self.fails(1, *serve, "a=no-such"))
        self.assertIn("adapters", self.fails(3, *serve, f"a={NAMES['ffn']}", "--memory", "60k"))


if __name__ == "__main__":
    support.main()
