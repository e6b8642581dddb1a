#include "tokenizers/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string>

#include "tokenizers/utf8.h"

namespace venturi {

namespace {

// A pattern may try this often per match; then the rest of the piece stays whole. No pattern of the
// table comes near it; patterns that come with a file might.
constexpr uint32_t kMatchLimit = 50'000'000;
constexpr size_t kJitStackBytes = 1 << 20;

// PCRE2's \s holds U+180E, which has not been white space since Unicode 6.3.
constexpr std::string_view kWhiteSpace =
    R"(\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

// \s and \S spelled out, in and out of brackets. (\S inside brackets stays PCRE2's.)
std::string in_our_dialect(std::string_view pattern) {
  std::string out;
  bool bracket = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      if (escaped == 's') {
        out += bracket ? std::string(kWhiteSpace) : fmt::format("[{}]", kWhiteSpace);
      } else if (escaped == 'S' && !bracket) {
        out += fmt::format("[^{}]", kWhiteSpace);
      } else {
        out += '\\';
        out += escaped;
      }
      continue;
    }
    if (pattern[i] == '[') bracket = true;
    if (pattern[i] == ']') bracket = false;
    out += pattern[i];
  }
  return out;
}

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
using CodePtr = std::unique_ptr<pcre2_code, FreeCode>;

// What a thread needs for matching, so that the compiled pattern stays constant. Made once for each
// thread: the stack is a mapping of its own, which would cost more than cutting a short text.
struct Matcher {
  Matcher()
      : data(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr)) {
    if (context == nullptr) return;
    pcre2_set_match_limit(context, kMatchLimit);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Matcher() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  Matcher(const Matcher&) = delete;
  Matcher& operator=(const Matcher&) = delete;

  pcre2_match_data* data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack;
};

Matcher& thread_matcher() {
  static thread_local Matcher matcher;
  return matcher;
}

}  // namespace

// One pattern: hand-written, or compiled.
struct PreTokenizer::Stage {
  SplitFunction fast = nullptr;
  CodePtr code;

  // Cuts at the beginning and the end of every match.
  void split(std::string_view piece, size_t base, std::vector<size_t>& ends) const {
    if (fast != nullptr) return fast(piece, base, ends);
    Matcher& matcher = thread_matcher();
    size_t cut = 0, from = 0;
    uint32_t flags = 0;
    while (from < piece.size() && matcher.data != nullptr) {
      const int found =
          pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(piece.data()), piece.size(), from,
                      PCRE2_NO_UTF_CHECK | flags, matcher.data, matcher.context);
      if (found == PCRE2_ERROR_NOMATCH && flags != 0) {
        from += decode_utf8(piece, from).length;  // behind an empty match: go on from there
        flags = 0;
        continue;
      }
      if (found < 0) break;
      const size_t* match = pcre2_get_ovector_pointer(matcher.data);
      if (match[0] > cut) ends.push_back(base + match[0]);
      if (match[1] > match[0]) ends.push_back(base + match[1]);
      cut = from = match[1];
      flags = match[1] == match[0] ? PCRE2_NOTEMPTY_ATSTART | PCRE2_ANCHORED : 0;
    }
    if (cut < piece.size()) ends.push_back(base + piece.size());
  }
};

PreTokenizer::PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

Result<PreTokenizer> PreTokenizer::compile(std::span<const std::string_view> patterns,
                                           bool allow_fast) {
  PreTokenizer result;
  for (const std::string_view pattern : patterns) {
    Stage stage;
    for (const FastSplit& fast : all_fast_splits())
      if (allow_fast && fast.pattern == pattern) stage.fast = fast.split;
    if (stage.fast == nullptr) {
      const std::string text = in_our_dialect(pattern);
      int problem = 0;
      size_t offset = 0;
      stage.code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                     PCRE2_UTF | PCRE2_UCP, &problem, &offset, nullptr));
      if (stage.code == nullptr) {
        char message[160] = "";
        pcre2_get_error_message(problem, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
        return error(Code::kInvalidArgument, "the pattern '{}' does not compile: {} at {}", text,
                     message, offset);
      }
      pcre2_jit_compile(stage.code.get(), PCRE2_JIT_COMPLETE);  // without it: slower, the same
    }
    result.stages_.push_back(std::move(stage));
  }
  return result;
}

void PreTokenizer::split(std::string_view text, std::vector<size_t>& ends) const {
  std::vector<size_t> pieces, next;
  for (size_t begin = 0; begin < text.size();) {
    const size_t valid = utf8_run(text, begin, true);
    const std::string_view run = text.substr(begin, valid);
    pieces.clear();
    if (valid > 0) pieces.push_back(valid);
    for (const Stage& stage : stages_) {
      next.clear();
      size_t at = 0;
      for (const size_t end : pieces) {
        stage.split(run.substr(at, end - at), at, next);
        at = end;
      }
      pieces.swap(next);
    }
    for (const size_t end : pieces) ends.push_back(begin + end);
    begin += valid;
    if (const size_t invalid = utf8_run(text, begin, false)) {
      begin += invalid;
      ends.push_back(begin);
    }
  }
}

}  // namespace venturi
