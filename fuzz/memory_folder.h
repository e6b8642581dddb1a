// A folder in memory, for readers that take one. The fuzzer's input is cut into its files at lines "%%%%".
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace venturi {

class MemoryFolder {
 public:
  MemoryFolder() : path_("/dev/shm/venturi_fuzz_XXXXXX") {
    if (!::mkdtemp(path_.data())) std::abort();
  }
  ~MemoryFolder() {
    for (const std::string& name : names_) ::unlink((path_ + "/" + name).c_str());
    ::rmdir(path_.c_str());
  }
  MemoryFolder(const MemoryFolder&) = delete;
  MemoryFolder& operator=(const MemoryFolder&) = delete;

  const std::string& path() const { return path_; }
  void adopt(const std::string& name) { names_.push_back(name); }  // written by another
  void write(const std::string& name, std::string_view bytes) {
    adopt(name);
    std::ofstream(path_ + "/" + name, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  // The parts of the input, as far as they go; the last takes what is left.
  void write(std::initializer_list<const char*> names, const uint8_t* data, size_t size) {
    constexpr std::string_view kCut = "\n%%%%\n";
    std::string_view left(reinterpret_cast<const char*>(data), size);
    size_t n = 0;
    for (const char* name : names) {
      const size_t cut = ++n < names.size() ? left.find(kCut) : std::string_view::npos;
      write(name, left.substr(0, cut));
      if (cut == std::string_view::npos) return;
      left.remove_prefix(cut + kCut.size());
    }
  }

 private:
  std::string path_;
  std::vector<std::string> names_;
};

}  // namespace venturi
