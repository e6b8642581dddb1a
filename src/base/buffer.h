// Anonymous memory drawn from the ledger: zeroed, 64-byte aligned (2 MB aligned and on huge pages when large).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/ledger.h"

namespace venturi {

class Buffer {
 public:
  Buffer() = default;
  // `holder` is the name shown in the ledger's report ("weights", "KV cache", …).
  static Result<Buffer> allocate(Ledger& ledger, uint64_t bytes, std::string_view holder);
  // What allocate(bytes) draws from the ledger: whole pages. Forecasts add up these.
  static uint64_t held_bytes(uint64_t bytes);

  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  uint64_t size() const { return size_; }

  template <typename T>
  T* as() { return reinterpret_cast<T*>(data_); }
  template <typename T>
  const T* as() const { return reinterpret_cast<const T*>(data_); }

 private:
  void reset();

  uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
  uint64_t mapped_ = 0;
  Lease lease_;
};

}  // namespace venturi
