// The session that a command keeps in a file: --session FILE.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cache/session.h"
#include "engine/engine.h"

namespace venturi {

// Into an empty sequence; nothing where there is no file yet.
Result<std::optional<SessionHead>> load_session_file(const std::string& path, const Engine& engine, SequenceState& sequence);
// `tokens` begin with those of the sequence.
Status save_session_file(const std::string& path, const Engine& engine, SequenceState& sequence, std::vector<TokenId> tokens,
                         std::string note);

}  // namespace venturi
