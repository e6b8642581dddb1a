// Typed key-value metadata of a model, as GGUF has it. Hugging Face directories are read into the
// same keys, so everything above this room knows one vocabulary of names.
//
// Getters return Code::kNotFound naming the key when it is absent and Code::kCorrupt naming key,
// expected and found type when it is of another type. Integers of any width and sign are accepted
// where they fit.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace venturi {

// The type ids of the GGUF specification.
enum class MetaType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

std::string_view meta_type_name(MetaType type);  // "u8", "string", …
uint64_t meta_type_bytes(MetaType type);         // of one element; 0 for strings and arrays

// An array's elements stay in their serialised little-endian form, checked once when read: a
// vocabulary of 256,000 strings costs its bytes, not 256,000 allocations.
struct MetaArray {
  MetaType element = MetaType::kU8;  // never kArray
  uint64_t count = 0;
  std::string bytes;

  bool operator==(const MetaArray&) const = default;
};

struct MetaValue {
  MetaType type = MetaType::kU32;
  std::variant<uint64_t, int64_t, double, bool, std::string, MetaArray> value;

  bool operator==(const MetaValue&) const = default;
};

class Metadata {
 public:
  bool contains(std::string_view key) const;
  const MetaValue* find(std::string_view key) const;

  Result<uint64_t> get_uint(std::string_view key) const;
  Result<int64_t> get_int(std::string_view key) const;
  Result<double> get_float(std::string_view key) const;  // integers accepted
  Result<bool> get_bool(std::string_view key) const;
  Result<std::string> get_string(std::string_view key) const;
  // Views into this object: valid while it lives and the key is not set again.
  Result<std::vector<std::string_view>> get_strings(std::string_view key) const;
  Result<std::vector<int64_t>> get_ints(std::string_view key) const;
  Result<std::vector<float>> get_floats(std::string_view key) const;

  // The value if present, `otherwise` if absent, an error if present with a wrong type.
  Result<uint64_t> uint_or(std::string_view key, uint64_t otherwise) const;
  Result<int64_t> int_or(std::string_view key, int64_t otherwise) const;
  Result<double> float_or(std::string_view key, double otherwise) const;
  Result<bool> bool_or(std::string_view key, bool otherwise) const;
  Result<std::string> string_or(std::string_view key, std::string_view otherwise) const;

  void set(std::string_view key, MetaValue value);      // replaces; keeps first position
  void set_uint(std::string_view key, uint64_t value);  // as u32 if it fits, else u64
  void set_int(std::string_view key, int64_t value);    // as i32 if it fits, else i64
  void set_float(std::string_view key, float value);
  void set_bool(std::string_view key, bool value);
  void set_string(std::string_view key, std::string value);
  void set_strings(std::string_view key, const std::vector<std::string>& values);
  void set_ints(std::string_view key, const std::vector<int32_t>& values);
  void set_floats(std::string_view key, const std::vector<float>& values);
  void erase(std::string_view key);

  // In the order of the file.
  const std::vector<std::pair<std::string, MetaValue>>& entries() const { return entries_; }

 private:
  std::vector<std::pair<std::string, MetaValue>> entries_;
  std::map<std::string, size_t, std::less<>> index_;
};

}  // namespace venturi
