#include "cli/prompt.h"

#include <algorithm>
#include <bitset>

#include "base/file.h"

namespace venturi {

namespace {

// What an engine's process may take beside the ledger leaves this to the tokenizer.
constexpr uint64_t kAllowance = 16u << 20;
// Symbols and heap of a byte that is being merged; copies of the text and its tokens.
constexpr uint64_t kBytesInWord = 48, kBytesInText = 12;

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// The longest stretch that begins with spaces and has none after something else: no tokenizer of words merges
// more at once.
uint64_t longest_word(std::string_view text) {
  size_t longest = 0, begin = 0;
  for (size_t i = 1; i < text.size(); ++i) {
    if (!is_space(text[i]) || is_space(text[i - 1])) continue;
    longest = std::max(longest, i - begin);
    begin = i;
  }
  return std::max(longest, text.size() - begin);
}

}  // namespace

Result<Lease> tokenizer_lease(const Metadata& metadata, Ledger& ledger, std::span<const std::string_view> texts) {
  const bool in_words = TRY(metadata.string_or("tokenizer.ggml.model", "")) != "t5";
  uint64_t word = 0, all = 0;
  for (const std::string_view text : texts) {
    word = std::max<uint64_t>(word, in_words ? longest_word(text) : text.size());
    all += text.size();
  }
  const uint64_t bytes = kBytesInWord * word + kBytesInText * all;
  if (bytes <= kAllowance) return Lease();
  return ledger.acquire(bytes - kAllowance, "the tokenizer");
}

Result<std::vector<TokenId>> encode_text(Engine& engine, std::string_view text, EncodeOptions options) {
  return encode_text(*TRY(engine.tokenizer()), engine.file().metadata, engine.ledger(), text, options);
}

Result<std::vector<TokenId>> encode_text(const Tokenizer& tokenizer, const Metadata& metadata, Ledger& ledger,
                                         std::string_view text, EncodeOptions options) {
  const Lease lease = TRY(tokenizer_lease(metadata, ledger, {&text, 1}));
  return tokenizer.encode(text, options);
}

uint64_t longest_prompt(Engine& engine) {
  const auto tokenizer = engine.tokenizer();
  const Metadata& metadata = engine.file().metadata;
  // A text that is folded, normalised or lacks tokens for some bytes may shrink to nothing.
  for (const char* key : {"tokenizer.ggml.precompiled_charsmap", "tokenizer.venturi.normal_form"})
    if (metadata.contains(key)) return kMaxPrompt;
  const auto scheme = metadata.string_or("tokenizer.ggml.model", "");
  const auto strips = metadata.bool_or("tokenizer.ggml.remove_extra_whitespaces", false);
  if (!tokenizer || !scheme || (*scheme != "llama" && *scheme != "gpt2") || !strips || *strips) return kMaxPrompt;
  std::bitset<256> bytes;
  uint64_t longest = 1;
  for (TokenId id = 0; id < (*tokenizer)->vocab_size(); ++id) {
    const std::string piece = (*tokenizer)->piece(id, true);
    longest = std::max<uint64_t>(longest, piece.size());
    if (piece.size() == 1) bytes.set(static_cast<uint8_t>(piece[0]));
  }
  if (!bytes.all()) return kMaxPrompt;
  const auto context = static_cast<uint64_t>(engine.options().context);
  return std::clamp<uint64_t>(context > kMaxPrompt / longest ? kMaxPrompt : context * longest, 4096, kMaxPrompt);
}

Error too_long(Engine& engine, bool context_was_given, std::string_view what, int64_t needed) {
  const int64_t context = engine.options().context;
  const bool by_budget = !context_was_given && engine.ledger().limit() != Ledger::kUnlimited;
  Error failure{by_budget ? Code::kOutOfBudget : Code::kInvalidArgument, fmt::format("{}, the context holds {}", what, context)};
  const int64_t most = engine.info().max_context;
  if (most > 0 && needed > most) {
    failure.message += fmt::format("; this model has positions for {}", most);
  } else if (needed > 0) {
    failure.message += fmt::format("; give -c {} or more", needed);
  }
  return failure;
}

Result<std::string> read_prompt(const TextFlags& flags, Engine& engine, bool context_was_given) {
  const uint64_t most = longest_prompt(engine);
  const std::string source = flags.source();
  auto text = source.empty() ? Result<std::string>(flags.prompt) : read_text_file(source, most);
  const bool longer = text ? text->size() > most : text.error().code == Code::kInvalidArgument;
  if (longer && most < kMaxPrompt)
    return too_long(engine, context_was_given, fmt::format("the prompt has more than {} bytes and so more tokens than fit", most), 0);
  return text;
}

}  // namespace venturi
