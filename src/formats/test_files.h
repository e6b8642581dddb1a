// Writes GGUF headers for tests, right or wrong on purpose: nothing is checked.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace venturi {

class GgufBuilder {
 public:
  template <typename T>
  GgufBuilder& raw(T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  GgufBuilder& text(std::string_view value) {
    raw<uint64_t>(value.size());
    bytes += value;
    return *this;
  }
  GgufBuilder& start(uint64_t n_tensors, uint64_t n_keys, uint32_t version = 3) {
    bytes += "GGUF";
    return raw<uint32_t>(version).raw<uint64_t>(n_tensors).raw<uint64_t>(n_keys);
  }
  // A key and its type; the value follows.
  GgufBuilder& key(std::string_view name, uint32_t type) { return text(name).raw<uint32_t>(type); }
  GgufBuilder& key_u32(std::string_view name, uint32_t value) { return key(name, 4).raw(value); }
  GgufBuilder& key_string(std::string_view name, std::string_view value) {
    return key(name, 8).text(value);
  }
  GgufBuilder& tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                      uint64_t offset) {
    text(name).raw<uint32_t>(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) raw(dim);
    return raw(type).raw(offset);
  }
  GgufBuilder& pad(size_t alignment = 32) {
    bytes.resize((bytes.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  GgufBuilder& zeros(size_t n) {
    bytes.resize(bytes.size() + n);
    return *this;
  }

  std::string bytes;
};

// A folder of its own for each test, removed with it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    path = (std::filesystem::temp_directory_path() / "venturi_test_XXXXXX").string();
    if (!::mkdtemp(path.data())) path.clear();
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path.empty()) std::filesystem::remove_all(path, ignored);
  }
  std::string write(std::string_view name, std::string_view contents) const {
    const std::string file = path + "/" + std::string(name);
    std::ofstream(file, std::ios::binary) << contents;
    return file;
  }
  std::string path;
};

}  // namespace venturi
