// Hand-written pre-tokenizer code against PCRE2 with the pattern it stands for, on any UTF-8; and
// every named pre-tokenizer on any bytes: its words are the text again.
#include <cstdlib>

#include "tokenizers/pre_tokenizer.h"
#include "tokenizers/test_support.h"

using namespace venturi;

namespace {

std::vector<size_t> split(const PreTokenizer& pre, std::string_view text) {
  std::vector<size_t> ends;
  pre.split(text, ends);
  return ends;
}

struct Pair {
  PreTokenizer ours, pcre;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto pairs = [] {
    std::vector<Pair> out;
    for (const FastSplit& fast : all_fast_splits())
      out.push_back({PreTokenizer::compile(std::span(&fast.pattern, 1)).value(),
                     PreTokenizer::compile(std::span(&fast.pattern, 1), false).value()});
    return out;
  }();
  static const auto named = [] {
    std::vector<PreTokenizer> out;
    for (const PreTokenizerInfo& info : all_pre_tokenizers())
      out.push_back(PreTokenizer::compile(info.patterns).value());
    return out;
  }();

  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::string text;
  for (size_t at = 0; at < bytes.size();) {
    const CodePoint c = decode_utf8(bytes, at);
    text += bytes.substr(at, c.length);
    at += c.length == 0 ? 1 : c.length;
  }
  text = testing::without_disputed(text);
  for (const Pair& pair : pairs)
    if (split(pair.ours, text) != split(pair.pcre, text)) std::abort();

  for (const PreTokenizer& pre : named) {
    size_t last = 0;
    for (const size_t end : split(pre, bytes)) {
      if (end <= last) std::abort();
      last = end;
    }
    if (last != bytes.size()) std::abort();
  }
  return 0;
}
