// How byte-level BPE cuts a text into words before it merges: the meaning of tokenizer.ggml.pre.
//
// A pre-tokenizer is a chain of patterns. Each pattern cuts every piece that the one before it left
// into its matches and what lies between them. Patterns are written in the dialect of the original
// tokenizers (Oniguruma, Rust): \s is Unicode's White_Space, \p{…} and (?i:…) are Unicode's. They
// run on PCRE2, the common ones on hand-written code that a test and a fuzzer compare with PCRE2.
//
// Bytes that are not UTF-8 are pieces of their own: no pattern sees them or past them.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace venturi {

struct PreTokenizerInfo {
  std::vector<std::string_view> names;     // of tokenizer.ggml.pre
  std::vector<std::string_view> patterns;  // applied in this order
  bool whole_words = false;  // a word that is a token is that token, whatever the merges say
  bool add_bos = false;      // unless the file says otherwise
  bool add_sep = false;
};

std::span<const PreTokenizerInfo> all_pre_tokenizers();
const PreTokenizerInfo* find_pre_tokenizer(std::string_view name);  // null if unknown

// Cuts `piece`, which is UTF-8, appending the end of every part as an offset into it plus `base`.
using SplitFunction = void (*)(std::string_view piece, size_t base, std::vector<size_t>& ends);

struct FastSplit {
  std::string_view pattern;  // what it stands for
  SplitFunction split;
};
std::span<const FastSplit> all_fast_splits();

class PatternSplitter;  // one compiled pattern

class PreTokenizer {
 public:
  // Code::kInvalidArgument naming the pattern that PCRE2 does not compile. `allow_fast` false
  // leaves the hand-written code aside, for comparisons.
  static Result<PreTokenizer> compile(std::span<const std::string_view> patterns,
                                      bool allow_fast = true);
  PreTokenizer(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  // Appends the ends of the words, in order; the last is text.size(). Any thread.
  void split(std::string_view text, std::vector<size_t>& ends) const;

 private:
  PreTokenizer();
  struct Stage;
  std::vector<Stage> stages_;
};

// Shared by the table of names and the table of hand-written code.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kDigitPattern = R"(\p{N})";
// Both cut a run of digits in threes from its right end. The first is \d{1,3}(?=(?:\d{3})*\b) with
// Oniguruma's idea of a word character, which PCRE2 shares only in some versions.
inline constexpr std::string_view kThousandsPattern =
    R"(\d{1,3}(?=(?:\d{3})*(?![\p{L}\p{M}\p{Nd}\p{Pc}])))";
inline constexpr std::string_view kThousandsCutPattern = R"((?=(\d{3})+(?!\d)))";

}  // namespace venturi
