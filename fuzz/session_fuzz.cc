// Any bytes as a session: an error, and the sequence as it was or of no use; or a state that is written again byte for
// byte as it was read.
#include "cache/session.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "memory_file.h"

using namespace venturi;

namespace {

const std::vector<SlotSpec>& slots() {
  static const std::vector<SlotSpec> all = {SlotSpec::paged(1, 4, 4), SlotSpec::recurrent(3), SlotSpec::paged_latent(8, 4),
                                            SlotSpec::paged(1, 4, 4, 70)};
  return all;
}

StatePool& pool() {
  static const auto ledger = Ledger::create();
  static const auto made = StatePool::create(*ledger, slots(), plan_state(slots(), {.tokens = 256, .sequences = 1, .rows = 64})).value();
  return *made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static MemoryFile memory;
  // With the checksum right, or nothing would come past it.
  std::vector<uint8_t> bytes(data, data + size);
  if (size >= sizeof(uint64_t)) {
    const uint64_t sum = XXH3_64bits(data, size - sizeof sum);
    std::memcpy(bytes.data() + size - sizeof sum, &sum, sizeof sum);
  }
  memory.assign(bytes.data(), bytes.size());
  auto state = pool().new_sequence().value();
  const auto head = load_session(memory.path(), 42, 1000, pool(), *state);
  if (!head) return 0;
  if (head->length != state->length() || head->length > static_cast<int64_t>(head->tokens.size()) || head->tokens.size() > 256) std::abort();
  static const std::string again = (std::filesystem::temp_directory_path() / fmt::format("session_fuzz.{}", ::getpid())).string();
  if (!save_session(again, *head, pool(), *state)) std::abort();
  const auto file = File::open(again);
  std::vector<uint8_t> written(file ? file->size() : 0);
  if (!file || !file->read_exact(0, written) || written != bytes) std::abort();
  ::unlink(again.c_str());
  return 0;
}
