"""lm-eval's `local-completions` against venturi serve: its requests as EleutherAI's lm-evaluation-harness makes them, its way
of reading the answers, and what that must give. lm-eval itself is not among Debian's packages."""
import concurrent.futures
import json
import math
import tempfile
import unittest

import support
from server_test import Server
from support import MODEL, SOURCE, venturi

GOLDEN = SOURCE / "tests" / "data" / "models"


class Client:
    """What lm_eval/models/openai_completions.py and api_models.py send and how they read it; utils.py's RemoteTokenizer."""

    def __init__(self, server, max_length=2048, batch_size=1, num_concurrent=1, tokenized=True):
        self.server, self.max_length, self.batch_size, self.num_concurrent, self.tokenized = server, max_length - 1, batch_size, num_concurrent, tokenized
        self.model = "tiny"

    def post(self, path, body):
        # Without OPENAI_API_KEY it sends an empty one.
        status, answer, _ = self.server.ask("POST", path, body, {"Authorization": "Bearer ", "Content-Type": "application/json"})
        assert status == 200, answer
        return answer

    # ---- tokenizer_backend=remote ----
    def has_remote_tokenizer(self):
        status, self.info, _ = self.server.ask("GET", "/tokenizer_info")
        return status == 200 and "eos_token" in self.info and isinstance(self.encode("test"), list)

    def encode(self, text):
        return self.post("/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]

    def decode(self, tokens):
        return self.post("/detokenize", {"tokens": tokens})["prompt"]

    @property
    def prefix_token(self):
        return self.encode(self.info["bos_token"] or self.info["eos_token"])[0]

    # ---- scores ----
    def pair(self, context, continuation):
        """Spaces at the end of the context are the continuation's."""
        spaces = len(context) - len(context.rstrip())
        if spaces:
            continuation, context = context[-spaces:] + continuation, context[:-spaces]
        whole, before = self.encode(context + continuation), self.encode(context)
        return before, whole[len(before):]

    def loglikelihood(self, pairs):
        """Of continuations' tokens after contexts' tokens: (sum, whether each is the likeliest)."""
        order = sorted(range(len(pairs)), key=lambda i: (-len(pairs[i][0] + pairs[i][1]), pairs[i][0] + pairs[i][1]))
        batches = [order[i:i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        results = [None] * len(pairs)
        with concurrent.futures.ThreadPoolExecutor(self.num_concurrent) as pool:
            for batch, found in zip(batches, pool.map(self.batch, [[pairs[i] for i in b] for b in batches])):
                for i, one in zip(batch, found):
                    results[i] = one
        return results

    def batch(self, pairs):
        inputs = [(context + continuation)[-self.max_length:] for context, continuation in pairs]
        lengths = [len(context) - max(0, len(context) + len(continuation) - self.max_length) for context, continuation in pairs]
        prompt = inputs
        if not self.tokenized:
            prompt = [self.decode(tokens) for tokens in inputs]
            prompt = prompt[0] if self.batch_size == 1 else prompt
        out = self.post("/v1/completions", {"model": self.model, "prompt": prompt, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True})
        found = []
        for choice, length, tokens in zip(sorted(out["choices"], key=lambda c: c["index"]), lengths, inputs):
            assert length > 0
            logprobs, top = choice["logprobs"]["token_logprobs"][length:-1], choice["logprobs"]["top_logprobs"][length:-1]
            assert len(logprobs) == len(tokens) - length, "the entry that is cut off is not the drawn token's"
            found.append((sum(logprobs), all(one == max(others.values()) for one, others in zip(logprobs, top))))
        return found

    def rolling(self, text):
        """Of a text, in windows that follow each other; the first token comes after the prefix token."""
        tokens, size = self.encode(text), self.max_length - 1
        windows = [([self.prefix_token], tokens[:size])]
        for begin in range(size, len(tokens), size):
            end = min(begin + size, len(tokens))  # the last has as much before it as there is room for
            windows.append((tokens[end - size - 1:begin], tokens[begin:end]))
        return sum(score for score, _ in self.loglikelihood(windows))

    # ---- texts ----
    def generate(self, contexts, until, max_gen_toks):
        prompt = [self.encode(c)[-(self.max_length - max_gen_toks):] for c in contexts] if self.tokenized else contexts
        out = self.post("/v1/completions", {"prompt": prompt, "model": self.model, "max_tokens": max_gen_toks, "temperature": 0,
                                            "stop": [*until, self.info["eos_token"]], "seed": 1234})
        texts = [None] * len(out["choices"])
        for choice in out["choices"]:
            texts[choice["index"]] = choice["text"]
        return texts


QUESTIONS = [(f"{who} went to the {place} and saw", [" a fox", " the old gentleman", " nothing at all.", "it"])
             for who in ("The king", "She", "My brother", "A small dog", "Nobody") for place in ("river", "dark wood", "house", "sea")]


class LmEval(unittest.TestCase):
    maxDiff = None

    def start(self, *flags, **options):
        server = Server(*flags, "--alias", "tiny", **options)
        self.addCleanup(lambda: self.assertEqual(server.stop(), 0))
        return server

    def pairs(self, client):
        return [client.pair(context, continuation) for context, choices in QUESTIONS for continuation in choices]

    def test_multiple_choice_in_batches_or_alone_over_ids_or_texts(self):
        server = self.start("--streams", 8)
        client = Client(server, 256)
        self.assertTrue(client.has_remote_tokenizer())
        pairs = self.pairs(client)
        self.assertEqual(len(QUESTIONS), 20)
        alone = client.loglikelihood(pairs)
        for more in ({"batch_size": 8}, {"num_concurrent": 8}, {"batch_size": 7, "num_concurrent": 3}):
            with self.subTest(**more):
                self.assertEqual(Client(server, 256, **more).loglikelihood(pairs), alone)
        # As texts, which the server cuts into tokens itself, its beginning token before them.
        begin = [client.prefix_token]
        self.assertTrue(client.info["add_bos_token"])
        after = client.loglikelihood([(begin + context, continuation) for context, continuation in pairs])
        by_text = []
        for context, continuation in pairs:
            text = client.decode(context + continuation)
            logprobs = client.post("/v1/completions", {"model": "tiny", "prompt": text, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234,
                                                       "echo": True})["choices"][0]["logprobs"]["token_logprobs"]
            by_text.append(sum(logprobs[1 + len(context):-1]))
        for (score, _), other in zip(after, by_text):
            self.assertAlmostEqual(score, other, places=9)
        # Without what is kept between requests, the same bits.
        fresh = Client(self.start("--streams", 2, "--no-prefix-cache"), 256)
        self.assertEqual(fresh.loglikelihood(pairs), alone)

    def test_scores_are_those_of_single_steps(self):
        server = self.start("--streams", 4)
        client = Client(server, 256)
        client.has_remote_tokenizer()
        for context, continuation in self.pairs(client)[::7]:
            total, greedy = 0.0, True
            for i, token in enumerate(continuation):
                out = client.post("/v1/completions", {"model": "tiny", "prompt": [context + continuation[:i]], "temperature": 0, "max_tokens": 1, "logprobs": 1})
                drawn = out["choices"][0]["logprobs"]
                scored = client.loglikelihood([(context + continuation[:i], [token])])[0]
                total += scored[0]
                greedy &= scored[1]
                self.assertLessEqual(scored[0], drawn["token_logprobs"][0])
                self.assertEqual(scored[1], scored[0] == drawn["token_logprobs"][0])
            whole = client.loglikelihood([(context, continuation)])[0]
            self.assertAlmostEqual(whole[0], total, places=4)
            self.assertEqual(whole[1], greedy)

    def test_the_references_scores(self):
        for name in ("llama-plain", "gpt2-plain"):
            with self.subTest(model=name):
                golden = json.loads((GOLDEN / f"{name}.json").read_text())
                client = Client(self.start("--streams", 4, model=GOLDEN / f"{name}.gguf", context=64), 64, batch_size=2)
                for prompt in golden["prompts"]:
                    logits = prompt.get("logits_f16_cache", prompt["logits"])[-1]["values"]
                    peak = max(logits)
                    norm = peak + math.log(sum(math.exp(x - peak) for x in logits))
                    best = logits.index(peak)
                    tokens = sorted({best, 5, 17, golden["vocab_size"] - 1})
                    for token, (score, greedy) in zip(tokens, client.loglikelihood([(prompt["tokens"], [token]) for token in tokens])):
                        self.assertAlmostEqual(score, logits[token] - norm, delta=4e-3)
                        self.assertEqual(greedy, token == best)
                    room = 62 - len(prompt["tokens"])
                    if prompt.get("greedy") and room > 2:
                        told = prompt["greedy"][:room]
                        self.assertTrue(client.loglikelihood([(prompt["tokens"], told)])[0][1])
                        self.assertFalse(client.loglikelihood([(prompt["tokens"], [*told[:-1], (told[-1] + 1) % golden["vocab_size"]])])[0][1])

    def test_a_rolling_score_is_evals_perplexity(self):
        text = "It was the best of times, and the old gentleman went to the river to see a fox. " * 12
        client = Client(self.start("--streams", 4), 256)
        client.has_remote_tokenizer()
        tokens = client.encode(text)
        self.assertGreater(len(tokens), 256)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(text)
            file.flush()
            scored = json.loads(venturi("eval", "-m", MODEL, "-f", file.name, "-c", 96, "--windows", 1, "--json").out)
        # eval's score is of the second half of its window: the beginning token and 95 others.
        window = [client.prefix_token, *tokens[:95]]
        score, _ = client.loglikelihood([(window[:49], window[49:])])[0]
        self.assertAlmostEqual(-score / 47, scored["nll"], places=9)
        # A text of one window is scored whole, one of several part by part.
        def scores(ids):
            out = client.post("/v1/completions", {"model": "tiny", "prompt": [ids], "temperature": 0, "max_tokens": 0, "logprobs": 1, "echo": True})
            return out["choices"][0]["logprobs"]["token_logprobs"]
        short = text[:300]
        self.assertEqual(client.rolling(short), sum(scores([client.prefix_token, *client.encode(short)])[1:]))
        first, rest = tokens[:254], tokens[254:]
        wanted = sum(scores([client.prefix_token, *first])[1:]) + sum(scores(tokens[len(tokens) - 255:])[255 - len(rest):])
        self.assertLess(len(rest), 254)
        self.assertAlmostEqual(client.rolling(text), wanted, places=9)

    def test_the_drawn_token_is_always_there_to_be_cut_off(self):
        """Also where it ends the text."""
        server = self.start("--streams", 2)
        client = Client(server, 256)
        client.has_remote_tokenizer()
        end = client.encode(client.info["eos_token"])
        self.assertEqual(len(end), 1)
        context, continuation = client.pair("It was the best", " of times")
        body = {"model": "tiny", "prompt": [context + continuation], "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
        plain = client.post("/v1/completions", body)["choices"][0]
        ended = client.post("/v1/completions", {**body, "logit_bias": {str(end[0]): 100}})["choices"][0]
        n = len(context + continuation)
        self.assertEqual(ended["finish_reason"], "stop")
        self.assertEqual([len(c["logprobs"]["token_logprobs"]) for c in (plain, ended)], [n + 1, n + 1])
        self.assertEqual(ended["logprobs"]["token_logprobs"][:n], plain["logprobs"]["token_logprobs"][:n])
        events = [json.loads(e)["choices"][0] for e in server.events("/v1/completions", {**body, "logit_bias": {str(end[0]): 100}, "stream": True})[:-1]]
        self.assertEqual([x for e in events for x in e["logprobs"]["token_logprobs"]], ended["logprobs"]["token_logprobs"])

    def test_what_is_too_long_is_cut_by_it_and_no_longer_refused(self):
        client = Client(self.start("--streams", 2), 256)
        client.has_remote_tokenizer()
        tokens = client.encode("a road by the river and " * 80)
        score, _ = client.loglikelihood([(tokens[:-3], tokens[-3:])])[0]
        self.assertEqual(score, client.loglikelihood([(tokens[-255:-3], tokens[-3:])])[0][0])

    def test_texts_until_something(self):
        server = self.start("--streams", 4)
        for tokenized in (True, False):
            client = Client(server, 256, batch_size=4, tokenized=tokenized)
            client.has_remote_tokenizer()
            contexts = [context for context, _ in QUESTIONS[:4]]
            texts = client.generate(contexts, ["\n\n", "fox"], 24)
            self.assertEqual(len(texts), 4)
            for context, text in zip(contexts, texts):
                self.assertNotIn("\n\n", text)
                self.assertEqual(text, client.generate([context], ["\n\n", "fox"], 24)[0])

    def test_the_remote_tokenizer(self):
        client = Client(self.start("--streams", 2), 256)
        self.assertTrue(client.has_remote_tokenizer())
        for name in ("bos_token", "eos_token"):
            ids = client.encode(client.info[name])
            self.assertEqual(len(ids), 1, name)
        text = "It was the best of times,\n and the old gentleman – 42"
        self.assertEqual(client.decode(client.encode(text)), text)
        # Written as llama.cpp's server has it, a control token in a text is text unless asked for.
        status, answer, _ = client.server.ask("POST", "/tokenize", {"content": client.info["eos_token"], "add_special": False})
        self.assertGreater(len(answer["tokens"]), 1)
        status, answer, _ = client.server.ask("POST", "/tokenize", {"content": client.info["eos_token"], "add_special": False, "parse_special": True})
        self.assertEqual(answer["tokens"], client.encode(client.info["eos_token"]))


if __name__ == "__main__":
    support.main()
