// Any bytes as the header of a sidecar: an error, or layers that lie inside the file.
#include "memory/neurons/sidecar.h"

#include <cstring>

#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace venturi;
  static MemoryFile memory;
  // With the sums right, or nothing would come past them: the header's and the file's length, the checksum.
  std::vector<uint8_t> bytes(data, data + size);
  uint32_t header_bytes = 0;
  if (size >= 64) {
    std::memcpy(&header_bytes, data + 20, 4);
    const uint64_t length = size;
    std::memcpy(bytes.data() + 32, &length, 8);
    std::memset(bytes.data() + 24, 0, 8);
    if (header_bytes <= size) {
      uint64_t hash = 0xcbf29ce484222325u;
      for (uint32_t i = 0; i < header_bytes; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3u;
      std::memcpy(bytes.data() + 24, &hash, 8);
    }
  }
  memory.assign(bytes.data(), size);
  auto file = File::open(memory.path());
  if (!file.ok()) std::abort();
  const auto header = read_sidecar_header(*file);
  if (!header.ok()) return 0;
  for (const SidecarEntry& e : header->entries) {
    if (e.bundle_bytes != 0 && e.n_neurons > size / e.bundle_bytes) std::abort();
    if (e.bundle_offset > size || e.scale_offset > size || e.scale_bytes > size - e.scale_offset) std::abort();
  }
  return 0;
}
