// Sessions: a sequence's tokens and state in a file, and back.
//
// The file, version 1, little endian:
//   head      magic "VENTSESS", u32 version, u32 slots, u64 model (a fingerprint of what made the state),
//             i64 tokens, i64 length (tokens whose state is here, the others follow them), u64 note bytes
//   slots     each: u32 kind, kv heads, k_dim, v_dim, values in keys, 0; i64 window, values
//   tokens    i32 each
//   note      the owner's, e.g. a conversation's messages
//   blocks    block by block of kPageTokens tokens, slot by slot: the page, of slots whose window still sees it
//   values    slot by slot: f32, of recurrent slots
//   checksum  u64: XXH3 of all before it
// Its length follows from its head, which is checked before anything else is read.
//
// A session that is not whole, or is another model's, is refused before anything changes: Code::kCorrupt,
// Code::kUnsupported (a later version), Code::kInvalidArgument (another model), Code::kOutOfBudget (longer than
// the context). Threads: one caller at a time, that of the sequence's pool.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "cache/state.h"

namespace venturi {

struct SessionHead {
  uint64_t model = 0;
  std::vector<int32_t> tokens;
  int64_t length = 0;  // at most all tokens
  std::string note = {};
};
constexpr uint64_t kMostNoteBytes = 16u << 20;

// Written beside `path` and seen there whole or not at all. The sequence must not change until it is written.
class SessionWriter {
 public:
  // head.length is the sequence's.
  static Result<std::unique_ptr<SessionWriter>> create(const std::string& path, const SessionHead& head, const StatePool& pool,
                                                       SequenceState& sequence);
  ~SessionWriter();
  // Writes about `bytes` more; whether that was all.
  Result<bool> some(uint64_t bytes);
  // Syncs and renames; from any thread, when some() is through.
  Status commit();
  uint64_t bytes() const;  // of the whole file

 private:
  SessionWriter();
  Status append(std::span<const uint8_t> bytes);
  Status append_block(int64_t block);
  struct Parts;
  std::unique_ptr<Parts> p_;
};

class SessionReader {
 public:
  // Checks the head against `model`, the pool's slots, the vocabulary and the context, and the file's length.
  static Result<std::unique_ptr<SessionReader>> open(const std::string& path, uint64_t model, const std::vector<SlotSpec>& slots,
                                                     int64_t vocab_size, int64_t context);
  ~SessionReader();
  const SessionHead& head() const;
  // Reads it all once: the checksum. From any thread.
  Status verify() const;
  // After verify(): reads about `bytes` more of the state into the sequence, which was empty at first; whether that
  // was all. After an error the sequence is of no use.
  Result<bool> some(SequenceState& sequence, uint64_t bytes);

 private:
  SessionReader();
  struct Parts;
  std::unique_ptr<Parts> p_;
};

// All at once.
Status save_session(const std::string& path, const SessionHead& head, const StatePool& pool, SequenceState& sequence);
Result<SessionHead> load_session(const std::string& path, uint64_t model, int64_t vocab_size, const StatePool& pool, SequenceState& sequence);

}  // namespace venturi
