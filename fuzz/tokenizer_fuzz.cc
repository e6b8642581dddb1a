// Any vocabulary and any text, for every scheme: an error or ids of the vocabulary, which decode.
//
// The input is lines: the first byte of each says what it is (a token with kind and score, a merge,
// a special id, a flag), the rest is its text; a line "=" ends the vocabulary and what follows is
// text.
#include <cstdlib>

#include "tokenizers/detokenizer.h"
#include "tokenizers/scheme.h"

using namespace venturi;

namespace {

struct Vocab {
  std::vector<std::string> tokens, merges;
  std::vector<int32_t> kinds;
  std::vector<float> scores;
};

void read_line(std::string_view line, Vocab& vocab, Metadata& metadata) {
  static const char* const kIds[] = {"bos", "eos", "unknown", "seperator", "cls", "eot", "eom"};
  static const char* const kFlags[] = {"add_bos_token", "add_eos_token", "add_sep_token",
                                       "add_space_prefix", "remove_extra_whitespaces"};
  if (line.empty()) return;
  const char what = line[0];
  line.remove_prefix(1);
  const int n = line.empty() ? 0 : static_cast<uint8_t>(line[0]);
  if (what >= '0' && what <= '9') {
    vocab.tokens.emplace_back(line);
    vocab.kinds.push_back(what - '0');
    vocab.scores.push_back(static_cast<float>(-n));
  } else if (what == 'm') {
    vocab.merges.emplace_back(line);
  } else if (what == 'i' && line.size() >= 2) {
    metadata.set_int(fmt::format("tokenizer.ggml.{}_token_id", kIds[n % 7]),
                     static_cast<int8_t>(line[1]));
  } else if (what == 'f' && line.size() >= 2) {
    metadata.set_bool(fmt::format("tokenizer.ggml.{}", kFlags[n % 5]), line[1] & 1);
  } else if (what == 'p') {
    metadata.set_string("tokenizer.ggml.pre", std::string(line));
  } else if (what == 'c') {
    MetaArray bytes{MetaType::kU8, line.size(), std::string(line)};
    metadata.set("tokenizer.ggml.precompiled_charsmap", {MetaType::kArray, std::move(bytes)});
  }
}

void use(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool parse : {false, true}) {
    const auto ids = tokenizer.encode(text, {.parse_special = parse});
    Detokenizer stream(tokenizer, parse);
    for (const TokenId id : ids) {
      if (id < 0 || id >= tokenizer.vocab_size()) std::abort();
      stream.push(id);
    }
    stream.finish();
    tokenizer.decode(ids, parse);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  Vocab vocab;
  Metadata metadata;
  while (!input.empty()) {
    const size_t end = std::min(input.find('\n'), input.size());
    const std::string_view line = input.substr(0, end);
    input.remove_prefix(std::min(end + 1, input.size()));
    if (line == "=") break;
    read_line(line, vocab, metadata);
  }
  metadata.set_strings("tokenizer.ggml.tokens", vocab.tokens);
  metadata.set_strings("tokenizer.ggml.merges", vocab.merges);
  metadata.set_ints("tokenizer.ggml.token_type", vocab.kinds);
  metadata.set_floats("tokenizer.ggml.scores", vocab.scores);
  for (const TokenizerScheme* scheme : all_tokenizer_schemes()) {
    metadata.set_string("tokenizer.ggml.model", std::string(scheme->name));
    const auto tokenizer = Tokenizer::from_metadata(metadata);
    if (tokenizer.ok()) use(**tokenizer, input);
  }
  return 0;
}
