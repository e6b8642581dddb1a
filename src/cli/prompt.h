// Text to tokens inside an engine's budget.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "cli/flags.h"

namespace venturi {

// What the tokenizer works with while it encodes the texts one by one, where it is more than the allowance of the
// process.
Result<Lease> tokenizer_lease(const Metadata& metadata, Ledger& ledger, std::span<const std::string_view> texts);

// Tokens of a text. What the tokenizer works with beside the text is drawn from the engine's ledger where it is
// more than the allowance of the process: Code::kOutOfBudget when there is no room.
Result<std::vector<TokenId>> encode_text(Engine& engine, std::string_view text, EncodeOptions options = {});
Result<std::vector<TokenId>> encode_text(const Tokenizer& tokenizer, const Metadata& metadata, Ledger& ledger,
                                         std::string_view text, EncodeOptions options);

// Bytes beyond which a text has more tokens than the context holds, whatever it says; no less than a page, and
// kMaxPrompt where nothing can be told from the length.
inline constexpr uint64_t kMaxPrompt = 256u << 20;
uint64_t longest_prompt(Engine& engine);

// A prompt that the context does not hold. It is the budget's fault where that chose the context.
Error too_long(Engine& engine, bool context_was_given, std::string_view what, int64_t needed);

// The text of -p or -f, refused by its length where that is enough.
Result<std::string> read_prompt(const TextFlags& flags, Engine& engine, bool context_was_given);

}  // namespace venturi
