// Any bytes as a GBNF grammar or, after a first byte of 's', a JSON Schema: it compiles or says why
// not; then the rest of its own text is run through it, within the limits.
#include <cstdint>
#include <string_view>

#include "grammar/json_schema.h"
#include "grammar/matcher.h"

using namespace venturi::grammar;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  const bool is_schema = !text.empty() && text[0] == 's';
  if (is_schema) text.remove_prefix(1);
  venturi::Result<Grammar> grammar = Grammar();
  if (is_schema) {
    const auto json = nlohmann::ordered_json::parse(text, nullptr, false);
    if (json.is_discarded()) return 0;
    grammar = json_schema_grammar(json);
  } else {
    grammar = parse_gbnf(text);
  }
  if (!grammar) return 0;
  const auto automaton = Automaton::compile(*grammar);
  if (!automaton) return 0;
  Matcher matcher(*automaton, {.max_depth = 32, .max_pairs = 64, .max_sets = 64});
  Matcher::Set set = matcher.start();
  for (size_t i = 0; i < text.size() && i < 256; ++i) {
    const Matcher::Set after = matcher.next(set, static_cast<uint8_t>(text[i]));
    if (after != Matcher::kDead) set = after;
    if (matcher.full()) set = matcher.collect(set);
  }
  return 0;
}
