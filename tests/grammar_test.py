"""Output held to a grammar or a schema: checked by readers that are not ours (json, and python3-jsonschema
where it is installed)."""
import json
import re
import unittest

from support import ProgramTest, main

try:
    import jsonschema
except ImportError:
    jsonschema = None

SCHEMAS = [
    {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 130},
                                      "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3}},
     "required": ["name", "age", "tags"], "additionalProperties": False},
    {"type": "array", "minItems": 2, "maxItems": 2, "items": {"anyOf": [{"type": "boolean"}, {"type": "number", "minimum": -1, "maximum": 1}]}},
    {"type": "string", "pattern": "^[A-Z][a-z]{2,8}$"},
    {"type": "object", "properties": {"when": {"type": "string", "format": "date"}}, "required": ["when"],
     "additionalProperties": {"type": "string", "maxLength": 4}},
    {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 8}, {"enum": [True, "a"]}], "type": ["string", "boolean"]},
    {"oneOf": [{"type": "object", "properties": {"kind": {"const": "a"}, "n": {"type": "integer", "maximum": 99}}, "required": ["kind", "n"]},
               {"type": "object", "properties": {"kind": {"const": "b"}, "s": {"type": "string", "maxLength": 8}}, "required": ["kind"]},
               {"type": "object", "properties": {"other": {"type": "boolean"}}, "required": ["other"]}, {"type": "null"}, {"enum": ["x", "y"]}]},
    {"oneOf": [{"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3}, {"type": "integer"}, {"enum": [0.5, "x"]}]},
    {"type": "object", "properties": {"to": {"type": "string", "format": "email"}, "at": {"type": "string", "format": "ipv6"},
                                      "for": {"type": "string", "format": "duration"}}, "required": ["to", "at", "for"]},
]


class Grammar(ProgramTest):
    def generate(self, *flags, n=300, seed=1):
        out = self.succeeds("run", "-p", "x", "-n", n, "--seed", seed, "--temp", "1.2", "--top-k", "0", "-q", *flags).out
        return out.removeprefix("x").removesuffix("\n")

    def test_output_satisfies_its_schema(self):
        whole = 0
        for schema in SCHEMAS:
            for seed in range(3):
                text = self.generate("-j", json.dumps(schema), seed=seed)
                with self.subTest(schema=schema, text=text):
                    try:
                        value = json.loads(text)
                    except json.JSONDecodeError:
                        continue  # cut off by -n; counted below
                    whole += 1
                    if jsonschema:
                        jsonschema.validate(value, schema, format_checker=jsonschema.FormatChecker())
        self.assertGreaterEqual(whole, 9)

    def test_gbnf(self):
        for seed in range(4):
            text = self.generate("--grammar", 'root ::= [0-9]{3} ("-" [0-9]{4} | " or " root)', seed=seed)
            self.assertRegex(text, r"^(\d{3} or )*\d{3}-\d{4}$")

    def test_what_cannot_be_compiled_is_refused(self):
        self.assertIn("multipleOf", self.fails(1, "run", "-p", "x", "-j", '{"multipleOf":2}'))
        self.assertIn("line 1", self.fails(2, "run", "-p", "x", "--grammar", "root ::= ("))
        self.assertIn("not JSON", self.fails(2, "run", "-p", "x", "-j", "{"))
        self.fails(2, "run", "-p", "x", "-j", "{}", "--grammar", "root ::= \"a\"")


if __name__ == "__main__":
    main()
