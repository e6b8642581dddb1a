#include "base/buffer.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "base/checked.h"

namespace venturi {

namespace {
constexpr uint64_t kHugePage = 2u << 20;
constexpr uint64_t kPage = 4096;

// Small buffers are not rounded to huge pages: a whole 2 MB page would become resident for their end.
uint64_t grain_of(uint64_t bytes) { return bytes >= 4 * kHugePage ? kHugePage : kPage; }
// What has a huge page in it begins on one. Besides the TLB, direct reads ask for it: into small pages a disk gave half
// of what it gave into huge ones, being told of every 4 kB by itself.
uint64_t alignment_of(uint64_t bytes) { return bytes >= kHugePage ? kHugePage : kPage; }
}  // namespace

uint64_t Buffer::held_bytes(uint64_t bytes) {
  return checked_align(bytes, grain_of(bytes)).value_or(UINT64_MAX);
}

Result<Buffer> Buffer::allocate(Ledger& ledger, uint64_t bytes, std::string_view holder) {
  Buffer buffer;
  if (bytes == 0) return buffer;
  const uint64_t alignment = alignment_of(bytes);
  const auto rounded = checked_align(bytes, grain_of(bytes));
  const auto slack = rounded ? checked_add(*rounded, alignment) : std::nullopt;
  if (!slack) return error(Code::kInvalidArgument, "{} asks for {} bytes", holder, bytes);
  buffer.lease_ = TRY(ledger.acquire(*rounded, holder));
  // The mapping is widened by one alignment and trimmed, which aligns it.
  void* p = mmap(nullptr, *slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    return error(Code::kIo, "cannot map {} for {}: {}", format_bytes(bytes), holder, std::strerror(errno));
  auto* base = static_cast<uint8_t*>(p);
  const uint64_t head = -reinterpret_cast<uintptr_t>(base) & (alignment - 1);
  if (head) munmap(base, head);
  if (const uint64_t tail = *slack - head - *rounded) munmap(base + head + *rounded, tail);
  buffer.data_ = base + head;
  buffer.size_ = bytes;
  buffer.mapped_ = *rounded;
  if (alignment == kHugePage) madvise(buffer.data_, buffer.mapped_, MADV_HUGEPAGE);
  return buffer;
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapped_(std::exchange(other.mapped_, 0)),
      lease_(std::move(other.lease_)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    reset();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    mapped_ = std::exchange(other.mapped_, 0);
    lease_ = std::move(other.lease_);
  }
  return *this;
}

Buffer::~Buffer() { reset(); }

void Buffer::reset() {
  if (data_) munmap(data_, mapped_);
  data_ = nullptr;
  size_ = mapped_ = 0;
  lease_.release();
}

}  // namespace venturi
