#include "cli/grammar_flags.h"

#include "base/file.h"
#include "grammar/json_schema.h"

namespace venturi {

namespace {

constexpr uint64_t kMaxBytes = 4u << 20;

Result<grammar::Grammar> from_schema(const std::string& text) {
  const auto json = nlohmann::ordered_json::parse(text, nullptr, false);
  if (json.is_discarded()) return error(Code::kInvalidArgument, "the JSON Schema is not JSON");
  return grammar::json_schema_grammar(json);
}

}  // namespace

void GrammarFlags::add(CLI::App& app) {
  auto* a = app.add_option("--grammar", grammar, "the output follows this GBNF grammar");
  auto* b = app.add_option("--grammar-file", grammar_file, "the same, from a file");
  auto* c = app.add_option("-j,--json-schema", schema, "the output is JSON that satisfies this schema; {} for any JSON");
  auto* d = app.add_option("--json-schema-file", schema_file, "the same, from a file");
  for (auto* one : {a, b, c, d})
    for (auto* other : {a, b, c, d})
      if (one != other) one->excludes(other);
}

Result<std::unique_ptr<grammar::Constraint>> GrammarFlags::constraint(const Tokenizer& tokenizer) const {
  std::unique_ptr<grammar::Constraint> none;
  if (grammar.empty() && grammar_file.empty() && schema.empty() && schema_file.empty()) return none;
  const bool is_schema = !schema.empty() || !schema_file.empty();
  const std::string& file = is_schema ? schema_file : grammar_file;
  const std::string text = file.empty() ? (is_schema ? schema : grammar) : TRY(read_text_file(file, kMaxBytes));
  const grammar::Grammar parsed = is_schema ? TRY(from_schema(text)) : TRY(grammar::parse_gbnf(text));
  auto automaton = TRY(grammar::Automaton::compile(parsed));
  return std::make_unique<grammar::Constraint>(std::move(automaton), std::make_shared<grammar::TokenTrie>(tokenizer));
}

}  // namespace venturi
