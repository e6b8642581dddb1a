#include "cli/session_file.h"

#include <filesystem>

#include "engine/fingerprint.h"

namespace venturi {

Result<std::optional<SessionHead>> load_session_file(const std::string& path, const Engine& engine, SequenceState& sequence) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::optional<SessionHead>();
  auto head = load_session(path, TRY(state_fingerprint(engine, engine.only_adapter())), engine.info().vocab_size, engine.state_pool(), sequence);
  if (head) return std::optional(std::move(*head));
  Error failure = std::move(head).error();
  // Of another model: the file's fault, not the command line's.
  if (failure.code == Code::kInvalidArgument) failure.code = Code::kUnsupported;
  return failure;
}

Status save_session_file(const std::string& path, const Engine& engine, SequenceState& sequence, std::vector<TokenId> tokens,
                         std::string note) {
  if (note.size() > kMostNoteBytes)
    return error(Code::kUnsupported, "{}: the conversation's texts are longer than {}", path, format_bytes(kMostNoteBytes));
  const SessionHead head{.model = TRY(state_fingerprint(engine, engine.only_adapter())), .tokens = std::move(tokens), .length = sequence.length(), .note = std::move(note)};
  return save_session(path, head, engine.state_pool(), sequence);
}

}  // namespace venturi
