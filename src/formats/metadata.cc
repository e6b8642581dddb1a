#include "formats/metadata.h"

#include <cassert>
#include <cstring>
#include <utility>

namespace venturi {

namespace {

template <typename T>
T load(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename T>
void store(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

bool is_integer(MetaType type) {
  return type <= MetaType::kI32 || type == MetaType::kU64 || type == MetaType::kI64;
}

bool is_float(MetaType type) { return type == MetaType::kF32 || type == MetaType::kF64; }

// Element `i` of an array of integers or bools. A u64 above the largest i64 gives nothing.
std::optional<int64_t> int_element(const MetaArray& array, uint64_t i) {
  const char* at = array.bytes.data() + i * meta_type_bytes(array.element);
  switch (array.element) {
    case MetaType::kU8:
    case MetaType::kBool:
      return load<uint8_t>(at);
    case MetaType::kI8:
      return load<int8_t>(at);
    case MetaType::kU16:
      return load<uint16_t>(at);
    case MetaType::kI16:
      return load<int16_t>(at);
    case MetaType::kU32:
      return load<uint32_t>(at);
    case MetaType::kI32:
      return load<int32_t>(at);
    case MetaType::kI64:
      return load<int64_t>(at);
    case MetaType::kU64: {
      const auto value = load<uint64_t>(at);
      if (value > INT64_MAX) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

std::string describe(const MetaValue& value) {
  if (const auto* array = std::get_if<MetaArray>(&value.value))
    return fmt::format("array of {} {}", array->count, meta_type_name(array->element));
  return std::string(meta_type_name(value.type));
}

Error absent(std::string_view key) {
  return error(Code::kNotFound, "metadata key '{}' is missing", key);
}

Error wrong_type(std::string_view key, std::string_view expected, const MetaValue& found) {
  return error(Code::kCorrupt, "metadata key '{}': expected {}, found {}", key, expected,
               describe(found));
}

// `otherwise` when the key is absent; any other error stands.
template <typename T>
Result<T> or_default(Result<T> found, T otherwise) {
  if (found.ok() || found.error().code != Code::kNotFound) return found;
  return otherwise;
}

}  // namespace

std::string_view meta_type_name(MetaType type) {
  static constexpr std::string_view kNames[] = {"u8",  "i8",  "u16",  "i16",    "u32",
                                                "i32", "f32", "bool", "string", "array",
                                                "u64", "i64", "f64"};
  const auto id = static_cast<uint32_t>(type);
  return id < std::size(kNames) ? kNames[id] : "unknown";
}

uint64_t meta_type_bytes(MetaType type) {
  static constexpr uint8_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  const auto id = static_cast<uint32_t>(type);
  return id < std::size(kBytes) ? kBytes[id] : 0;
}

bool Metadata::contains(std::string_view key) const { return index_.contains(key); }

const MetaValue* Metadata::find(std::string_view key) const {
  const auto it = index_.find(key);
  return it == index_.end() ? nullptr : &entries_[it->second].second;
}

Result<uint64_t> Metadata::get_uint(std::string_view key) const {
  const MetaValue* found = find(key);
  if (!found) return absent(key);
  if (const auto* u = std::get_if<uint64_t>(&found->value)) return *u;
  if (const auto* i = std::get_if<int64_t>(&found->value)) {
    if (*i >= 0) return static_cast<uint64_t>(*i);
    return error(Code::kCorrupt, "metadata key '{}': expected an integer >= 0, found {}", key, *i);
  }
  return wrong_type(key, "an integer", *found);
}

Result<int64_t> Metadata::get_int(std::string_view key) const {
  const MetaValue* found = find(key);
  if (!found) return absent(key);
  if (const auto* i = std::get_if<int64_t>(&found->value)) return *i;
  if (const auto* u = std::get_if<uint64_t>(&found->value)) {
    if (*u <= INT64_MAX) return static_cast<int64_t>(*u);
    return error(Code::kCorrupt, "metadata key '{}': expected an integer below 2^63, found {}", key,
                 *u);
  }
  return wrong_type(key, "an integer", *found);
}

Result<double> Metadata::get_float(std::string_view key) const {
  const MetaValue* found = find(key);
  if (!found) return absent(key);
  if (const auto* d = std::get_if<double>(&found->value)) return *d;
  if (const auto* u = std::get_if<uint64_t>(&found->value)) return static_cast<double>(*u);
  if (const auto* i = std::get_if<int64_t>(&found->value)) return static_cast<double>(*i);
  return wrong_type(key, "a number", *found);
}

Result<bool> Metadata::get_bool(std::string_view key) const {
  const MetaValue* found = find(key);
  if (!found) return absent(key);
  if (const auto* b = std::get_if<bool>(&found->value)) return *b;
  return wrong_type(key, "a bool", *found);
}

Result<std::string> Metadata::get_string(std::string_view key) const {
  const MetaValue* found = find(key);
  if (!found) return absent(key);
  if (const auto* s = std::get_if<std::string>(&found->value)) return *s;
  return wrong_type(key, "a string", *found);
}

Result<std::vector<std::string_view>> Metadata::get_strings(std::string_view key) const {
  const MetaValue* found = find(key);
  if (!found) return absent(key);
  const auto* array = std::get_if<MetaArray>(&found->value);
  if (!array || array->element != MetaType::kString)
    return wrong_type(key, "an array of strings", *found);
  std::vector<std::string_view> strings;
  strings.reserve(array->count);
  const std::string_view bytes = array->bytes;
  size_t at = 0;
  for (uint64_t i = 0; i < array->count; ++i) {
    const auto length = load<uint64_t>(bytes.data() + at);
    strings.push_back(bytes.substr(at + 8, length));
    at += 8 + length;
  }
  return strings;
}

Result<std::vector<int64_t>> Metadata::get_ints(std::string_view key) const {
  const MetaValue* found = find(key);
  if (!found) return absent(key);
  const auto* array = std::get_if<MetaArray>(&found->value);
  if (!array || !(is_integer(array->element) || array->element == MetaType::kBool))
    return wrong_type(key, "an array of integers", *found);
  std::vector<int64_t> values(array->count);
  for (uint64_t i = 0; i < array->count; ++i) {
    const auto value = int_element(*array, i);
    if (!value)
      return error(Code::kCorrupt, "metadata key '{}'[{}]: expected an integer below 2^63", key, i);
    values[i] = *value;
  }
  return values;
}

Result<std::vector<float>> Metadata::get_floats(std::string_view key) const {
  const MetaValue* found = find(key);
  if (!found) return absent(key);
  const auto* array = std::get_if<MetaArray>(&found->value);
  if (!array || !(is_float(array->element) || is_integer(array->element)))
    return wrong_type(key, "an array of numbers", *found);
  std::vector<float> values(array->count);
  const char* bytes = array->bytes.data();
  for (uint64_t i = 0; i < array->count; ++i) {
    if (array->element == MetaType::kF32) {
      values[i] = load<float>(bytes + 4 * i);
    } else if (array->element == MetaType::kF64) {
      values[i] = static_cast<float>(load<double>(bytes + 8 * i));
    } else if (const auto value = int_element(*array, i)) {
      values[i] = static_cast<float>(*value);
    } else {
      values[i] = static_cast<float>(load<uint64_t>(bytes + 8 * i));
    }
  }
  return values;
}

Result<uint64_t> Metadata::uint_or(std::string_view key, uint64_t otherwise) const {
  return or_default(get_uint(key), otherwise);
}
Result<int64_t> Metadata::int_or(std::string_view key, int64_t otherwise) const {
  return or_default(get_int(key), otherwise);
}
Result<double> Metadata::float_or(std::string_view key, double otherwise) const {
  return or_default(get_float(key), otherwise);
}
Result<bool> Metadata::bool_or(std::string_view key, bool otherwise) const {
  return or_default(get_bool(key), otherwise);
}
Result<std::string> Metadata::string_or(std::string_view key, std::string_view otherwise) const {
  return or_default(get_string(key), std::string(otherwise));
}

void Metadata::set(std::string_view key, MetaValue value) {
  const auto it = index_.find(key);
  if (it != index_.end()) {
    entries_[it->second].second = std::move(value);
    return;
  }
  index_.emplace(std::string(key), entries_.size());
  entries_.emplace_back(std::string(key), std::move(value));
}

void Metadata::set_uint(std::string_view key, uint64_t value) {
  set(key, {value <= UINT32_MAX ? MetaType::kU32 : MetaType::kU64, value});
}

void Metadata::set_int(std::string_view key, int64_t value) {
  const bool small = value >= INT32_MIN && value <= INT32_MAX;
  set(key, {small ? MetaType::kI32 : MetaType::kI64, value});
}

void Metadata::set_float(std::string_view key, float value) {
  set(key, {MetaType::kF32, static_cast<double>(value)});
}

void Metadata::set_bool(std::string_view key, bool value) { set(key, {MetaType::kBool, value}); }

void Metadata::set_string(std::string_view key, std::string value) {
  set(key, {MetaType::kString, std::move(value)});
}

void Metadata::set_strings(std::string_view key, const std::vector<std::string>& values) {
  MetaArray array{MetaType::kString, values.size(), {}};
  for (const std::string& value : values) {
    store<uint64_t>(array.bytes, value.size());
    array.bytes += value;
  }
  set(key, {MetaType::kArray, std::move(array)});
}

void Metadata::set_ints(std::string_view key, const std::vector<int32_t>& values) {
  MetaArray array{MetaType::kI32, values.size(), {}};
  array.bytes.assign(reinterpret_cast<const char*>(values.data()), values.size() * 4);
  set(key, {MetaType::kArray, std::move(array)});
}

void Metadata::set_floats(std::string_view key, const std::vector<float>& values) {
  MetaArray array{MetaType::kF32, values.size(), {}};
  array.bytes.assign(reinterpret_cast<const char*>(values.data()), values.size() * 4);
  set(key, {MetaType::kArray, std::move(array)});
}

void Metadata::erase(std::string_view key) {
  const auto it = index_.find(key);
  if (it == index_.end()) return;
  const size_t gone = it->second;
  index_.erase(it);
  entries_.erase(entries_.begin() + static_cast<ptrdiff_t>(gone));
  for (auto& [name, position] : index_)
    if (position > gone) --position;
}

}  // namespace venturi
