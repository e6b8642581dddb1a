#include "cache/session.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

#include "base/checked.h"

namespace venturi {

namespace {

static_assert(std::endian::native == std::endian::little);

constexpr char kMagic[8] = {'V', 'E', 'N', 'T', 'S', 'E', 'S', 'S'};
constexpr uint32_t kVersion = 1;

struct FileHead {
  char magic[8];
  uint32_t version, n_slots;
  uint64_t model;
  int64_t tokens, length;
  uint64_t note_bytes;
};
static_assert(sizeof(FileHead) == 48);

struct FileSlot {
  uint32_t kind, n_kv_heads, k_dim, v_dim, values_in_keys, zero;
  int64_t window, n_values;
  bool operator==(const FileSlot&) const = default;
};
static_assert(sizeof(FileSlot) == 40);

FileSlot file_slot(const SlotSpec& s) {
  return {.kind = static_cast<uint32_t>(s.kind),
          .n_kv_heads = static_cast<uint32_t>(s.n_kv_heads),
          .k_dim = static_cast<uint32_t>(s.k_dim),
          .v_dim = static_cast<uint32_t>(s.v_dim),
          .values_in_keys = s.values_in_keys,
          .zero = 0,
          .window = s.window,
          .n_values = s.n_values};
}

class Checksum {
 public:
  Checksum() { XXH3_64bits_reset(&state_); }
  void add(std::span<const uint8_t> bytes) { XXH3_64bits_update(&state_, bytes.data(), bytes.size()); }
  uint64_t value() const { return XXH3_64bits_digest(&state_); }

 private:
  XXH3_state_t state_;
};

// The first block that is kept of a sequence of `length` tokens.
int64_t first_block(const SlotSpec& slot, int64_t length) {
  return slot.window > 0 ? std::max<int64_t>(0, length - slot.window + 1) / kPageTokens : 0;
}

bool has(const SlotSpec& slot, int64_t block, int64_t length) {
  return slot.kind == SlotSpec::Kind::kPaged && block >= first_block(slot, length);
}

// Of blocks and values; nothing if that passes 2^64.
std::optional<uint64_t> state_bytes(const std::vector<SlotSpec>& slots, int64_t length) {
  uint64_t total = 0;
  for (const SlotSpec& slot : slots) {
    const auto blocks = static_cast<uint64_t>(ceil_div(length, kPageTokens) - first_block(slot, length));
    const auto bytes = slot.kind == SlotSpec::Kind::kPaged
                           ? checked_mul(slot.page_bytes(), blocks)
                           : checked_mul(static_cast<uint64_t>(slot.n_values), sizeof(float));
    const auto sum = bytes ? checked_add(total, *bytes) : std::nullopt;
    if (!sum) return std::nullopt;
    total = *sum;
  }
  return total;
}

std::optional<uint64_t> file_bytes(const std::vector<SlotSpec>& slots, uint64_t tokens, int64_t length, uint64_t note) {
  const auto state = state_bytes(slots, length);
  const auto ids = checked_mul(tokens, sizeof(int32_t));
  const uint64_t rest = sizeof(FileHead) + slots.size() * sizeof(FileSlot) + sizeof(uint64_t);
  auto sum = state && ids ? checked_add(*state, *ids) : std::nullopt;
  if (sum) sum = checked_add(*sum, note);
  return sum ? checked_add(*sum, rest) : std::nullopt;
}

template <typename T>
std::span<const uint8_t> bytes_of(const std::vector<T>& list) {
  return {reinterpret_cast<const uint8_t*>(list.data()), list.size() * sizeof(T)};
}

}  // namespace

// ---- writing ----

struct SessionWriter::Parts {
  explicit Parts(AtomicFile f) : file(std::move(f)) {}
  AtomicFile file;
  Checksum checksum;
  const StatePool* pool = nullptr;
  SequenceState* sequence = nullptr;
  int64_t length = 0, next_block = 0;
  uint64_t bytes = 0;
  bool done = false;
};

SessionWriter::SessionWriter() = default;
SessionWriter::~SessionWriter() = default;
uint64_t SessionWriter::bytes() const { return p_->bytes; }

Result<std::unique_ptr<SessionWriter>> SessionWriter::create(const std::string& path, const SessionHead& head, const StatePool& pool,
                                                             SequenceState& sequence) {
  assert(head.length == sequence.length() && head.length <= static_cast<int64_t>(head.tokens.size()) &&
         head.note.size() <= kMostNoteBytes);
  std::unique_ptr<SessionWriter> writer(new SessionWriter);
  writer->p_ = std::make_unique<Parts>(TRY(AtomicFile::create(path)));
  Parts& p = *writer->p_;
  p.pool = &pool;
  p.sequence = &sequence;
  p.length = head.length;
  p.bytes = file_bytes(pool.slots(), head.tokens.size(), head.length, head.note.size()).value_or(UINT64_MAX);
  TRY(p.file.reserve(p.bytes));
  FileHead first{.magic = {}, .version = kVersion, .n_slots = static_cast<uint32_t>(pool.slots().size()), .model = head.model,
                 .tokens = static_cast<int64_t>(head.tokens.size()), .length = head.length, .note_bytes = head.note.size()};
  std::memcpy(first.magic, kMagic, sizeof kMagic);
  TRY(writer->append({reinterpret_cast<const uint8_t*>(&first), sizeof first}));
  std::vector<FileSlot> slots;
  for (const SlotSpec& slot : pool.slots()) slots.push_back(file_slot(slot));
  TRY(writer->append(bytes_of(slots)));
  TRY(writer->append(bytes_of(head.tokens)));
  TRY(writer->append({reinterpret_cast<const uint8_t*>(head.note.data()), head.note.size()}));
  return writer;
}

Status SessionWriter::append(std::span<const uint8_t> bytes) {
  p_->checksum.add(bytes);
  return p_->file.append(bytes);
}

Status SessionWriter::append_block(int64_t block) {
  SequenceState& sequence = *p_->sequence;
  const std::vector<SlotSpec>& slots = p_->pool->slots();
  for (int slot = 0; slot < static_cast<int>(slots.size()); ++slot) {
    if (!has(slots[slot], block, p_->length)) continue;
    const uint64_t bytes = slots[slot].page_bytes();
    if (block >= sequence.spilled(slot)) {
      TRY(append({reinterpret_cast<const uint8_t*>(sequence.key_page(slot, block, 0)), bytes}));
      continue;
    }
    const uint8_t* split = TRY(sequence.fetch(slot, block / kBlocksPerSplit));
    Status status = append({split + block % kBlocksPerSplit * sequence.page_stride(slot), bytes});
    sequence.release();
    TRY(std::move(status));
  }
  return {};
}

Result<bool> SessionWriter::some(uint64_t bytes) {
  Parts& p = *p_;
  const int64_t blocks = ceil_div(p.length, kPageTokens);
  for (const uint64_t begin = p.file.size(); p.next_block < blocks && p.file.size() - begin < bytes; ++p.next_block)
    TRY(append_block(p.next_block));
  if (p.next_block < blocks) return false;
  if (std::exchange(p.done, true)) return true;
  const std::vector<SlotSpec>& slots = p.pool->slots();
  for (int slot = 0; slot < static_cast<int>(slots.size()); ++slot)
    if (slots[slot].kind == SlotSpec::Kind::kRecurrent)
      TRY(append({reinterpret_cast<const uint8_t*>(p.sequence->recurrent(slot)), slots[slot].n_values * sizeof(float)}));
  const uint64_t sum = p.checksum.value();
  TRY(p.file.append({reinterpret_cast<const uint8_t*>(&sum), sizeof sum}));
  assert(p.file.size() == p.bytes);
  return true;
}

Status SessionWriter::commit() {
  assert(p_->done);
  return p_->file.commit();
}

// ---- reading ----

struct SessionReader::Parts {
  File file;
  SessionHead head;
  std::vector<SlotSpec> slots;
  uint64_t state_begin = 0, at = 0;  // of the blocks; what was read up to
  int64_t next_block = 0;
  Checksum checksum;                 // of what was read
};

SessionReader::SessionReader() = default;
SessionReader::~SessionReader() = default;
const SessionHead& SessionReader::head() const { return p_->head; }

Result<std::unique_ptr<SessionReader>> SessionReader::open(const std::string& path, uint64_t model, const std::vector<SlotSpec>& slots,
                                                           int64_t vocab_size, int64_t context) {
  std::unique_ptr<SessionReader> reader(new SessionReader);
  reader->p_ = std::make_unique<Parts>();
  Parts& p = *reader->p_;
  p.file = TRY(File::open(path));
  p.slots = slots;
  const auto corrupt = [&](std::string what) { return error(Code::kCorrupt, "{}: {}", path, what); };
  FileHead first;
  if (p.file.size() < sizeof first) return corrupt(fmt::format("a session begins with {} bytes, there are {}", sizeof first, p.file.size()));
  TRY(p.file.read_exact(0, {reinterpret_cast<uint8_t*>(&first), sizeof first}));
  if (std::memcmp(first.magic, kMagic, sizeof kMagic) != 0) return corrupt("this is no session of venturi");
  if (first.version != kVersion)
    return error(Code::kUnsupported, "{}: a session of version {}; this program reads {}", path, first.version, kVersion);
  if (first.model != model || first.n_slots != slots.size())
    return error(Code::kInvalidArgument, "{}: this session was saved with another model, or with one opened in another way", path);
  if (first.tokens < 1 || first.length < 0 || first.length > first.tokens || first.note_bytes > kMostNoteBytes ||
      static_cast<uint64_t>(first.tokens) > p.file.size() / sizeof(int32_t))
    return corrupt(fmt::format("{} tokens, {} of them in the state, and a note of {} bytes cannot be", first.tokens, first.length, first.note_bytes));
  const auto bytes = file_bytes(slots, static_cast<uint64_t>(first.tokens), first.length, first.note_bytes);
  if (!bytes || *bytes != p.file.size())
    return corrupt(fmt::format("{} bytes are expected, there are {}; it is damaged or cut off", bytes.value_or(0), p.file.size()));
  uint64_t at = sizeof first;
  std::vector<FileSlot> held(slots.size());
  TRY(p.file.read_exact(at, {reinterpret_cast<uint8_t*>(held.data()), held.size() * sizeof(FileSlot)}));
  at += held.size() * sizeof(FileSlot);
  for (size_t i = 0; i < slots.size(); ++i)
    if (held[i] != file_slot(slots[i]))
      return error(Code::kInvalidArgument, "{}: slot {} of the state has another shape than this model's", path, i);
  if (first.tokens > context)
    return error(Code::kOutOfBudget, "{}: the session has {} tokens, the context holds {}; open the model with a larger one (-c)", path,
                 first.tokens, context);
  p.head.model = first.model;
  p.head.length = first.length;
  p.head.tokens.resize(static_cast<size_t>(first.tokens));
  TRY(p.file.read_exact(at, {reinterpret_cast<uint8_t*>(p.head.tokens.data()), p.head.tokens.size() * sizeof(int32_t)}));
  at += p.head.tokens.size() * sizeof(int32_t);
  for (const int32_t id : p.head.tokens)
    if (id < 0 || id >= vocab_size) return corrupt(fmt::format("token id {} is outside the vocabulary of {}", id, vocab_size));
  p.head.note.resize(first.note_bytes);
  TRY(p.file.read_exact(at, {reinterpret_cast<uint8_t*>(p.head.note.data()), p.head.note.size()}));
  p.state_begin = p.at = at + first.note_bytes;
  return reader;
}

namespace {

Status read_and_add(const File& file, uint64_t& at, std::span<uint8_t> out, Checksum& checksum) {
  TRY(file.read_exact(at, out));
  checksum.add(out);
  at += out.size();
  return {};
}

Status check(const File& file, const Checksum& checksum) {
  uint64_t sum = 0;
  TRY(file.read_exact(file.size() - sizeof sum, {reinterpret_cast<uint8_t*>(&sum), sizeof sum}));
  if (sum == checksum.value()) return {};
  return error(Code::kCorrupt, "{}: the checksum is {:016x}, {:016x} is expected; the session is damaged", file.path(), checksum.value(), sum);
}

}  // namespace

Status SessionReader::verify() const {
  Checksum checksum;
  std::vector<uint8_t> piece(1 << 20);
  for (uint64_t at = 0, end = p_->file.size() - sizeof(uint64_t); at < end;)
    TRY(read_and_add(p_->file, at, std::span(piece).first(std::min<uint64_t>(piece.size(), end - at)), checksum));
  return check(p_->file, checksum);
}

Result<bool> SessionReader::some(SequenceState& sequence, uint64_t bytes) {
  Parts& p = *p_;
  const int64_t length = p.head.length, blocks = ceil_div(length, kPageTokens);
  if (p.at == p.state_begin) {  // what was read of the beginning counts too
    std::vector<uint8_t> beginning(p.state_begin);
    uint64_t at = 0;
    TRY(read_and_add(p.file, at, beginning, p.checksum));
  }
  for (const uint64_t begin = p.at; p.next_block < blocks && p.at - begin < bytes; ++p.next_block) {
    const int64_t position = p.next_block * kPageTokens, rows = std::min<int64_t>(kPageTokens, length - position);
    TRY(sequence.prepare(position, rows));
    for (int slot = 0; slot < static_cast<int>(p.slots.size()); ++slot)
      if (has(p.slots[slot], p.next_block, length))
        TRY(read_and_add(p.file, p.at, {reinterpret_cast<uint8_t*>(sequence.key_page(slot, p.next_block, 0)), p.slots[slot].page_bytes()},
                         p.checksum));
    sequence.set_length(position + rows);
  }
  if (p.next_block < blocks) return false;
  TRY(sequence.prepare(length, 0));  // gives back what a window does not see and was not there to be read
  for (int slot = 0; slot < static_cast<int>(p.slots.size()); ++slot)
    if (p.slots[slot].kind == SlotSpec::Kind::kRecurrent)
      TRY(read_and_add(p.file, p.at, {reinterpret_cast<uint8_t*>(sequence.recurrent(slot)), p.slots[slot].n_values * sizeof(float)}, p.checksum));
  TRY(check(p.file, p.checksum));
  return true;
}

// ---- both at once ----

Status save_session(const std::string& path, const SessionHead& head, const StatePool& pool, SequenceState& sequence) {
  auto writer = TRY(SessionWriter::create(path, head, pool, sequence));
  TRY(writer->some(UINT64_MAX));
  return writer->commit();
}

Result<SessionHead> load_session(const std::string& path, uint64_t model, int64_t vocab_size, const StatePool& pool, SequenceState& sequence) {
  auto reader = TRY(SessionReader::open(path, model, pool.slots(), vocab_size, pool.tokens_per_sequence()));
  TRY(reader->verify());
  TRY(reader->some(sequence, UINT64_MAX));
  return reader->head();
}

}  // namespace venturi
