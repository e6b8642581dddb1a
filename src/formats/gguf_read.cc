#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <unordered_map>

#include "base/checked.h"
#include "formats/byte_cursor.h"
#include "formats/gguf.h"

namespace venturi {

namespace {

constexpr uint32_t kMagic = 0x46554747;          // "GGUF"
constexpr uint32_t kMagicReversed = 0x47475546;  // "FUGG"

class HeaderReader {
 public:
  HeaderReader(const File& file, int file_index)
      : file_(file),
        file_index_(file_index),
        cursor_(file, std::min(file.size(), kGgufMaxHeaderBytes)) {}

  Result<GgufHeader> read() {
    TRY(read_start());
    for (uint64_t i = 0; i < n_keys_; ++i) TRY(read_entry());
    TRY(read_alignment());
    header_.tensors.reserve(n_tensors_);
    for (uint64_t i = 0; i < n_tensors_; ++i) TRY(read_tensor());
    TRY(place_tensors());
    return std::move(header_);
  }

 private:
  Status read_start();
  Status read_version();
  Status read_entry();
  Result<MetaValue> read_value(MetaType type, const std::string& field);
  Result<MetaValue> read_array(const std::string& field);
  Status check_bools(const MetaArray& array, const std::string& field, uint64_t offset);
  Result<bool> read_bool(const std::string& field);
  Status read_alignment();
  Status read_tensor();
  Status read_dims(TensorInfo& tensor);
  Status place_tensors();

  template <typename T, typename Wide>
  Result<MetaValue> read_number(MetaType type, const std::string& field) {
    const T value = TRY(cursor_.number<T>(field));
    return MetaValue{type, static_cast<Wide>(value)};
  }

  template <typename... Args>
  Error corrupt(fmt::format_string<Args...> format, Args&&... args) const {
    return error(Code::kCorrupt, "{}: {}", file_.path(),
                 fmt::format(format, std::forward<Args>(args)...));
  }

  const File& file_;
  const int file_index_;
  ByteCursor cursor_;
  GgufHeader header_;
  uint64_t n_keys_ = 0;
  uint64_t n_tensors_ = 0;
  std::unordered_map<std::string, size_t> names_;
};

Status HeaderReader::read_start() {
  const uint32_t magic = TRY(cursor_.number<uint32_t>("the magic"));
  if (magic == kMagicReversed)
    return error(Code::kUnsupported,
                 "{}: a big-endian GGUF file; only little-endian ones are read, "
                 "convert it again on or for a little-endian machine",
                 file_.path());
  if (magic != kMagic)
    return corrupt("not a GGUF file: expected the magic 'GGUF' at offset 0, found {}",
                   shown({reinterpret_cast<const char*>(&magic), 4}));
  TRY(read_version());
  n_tensors_ = TRY(cursor_.number<uint64_t>("the tensor count"));
  n_keys_ = TRY(cursor_.number<uint64_t>("the key count"));

  // The least an entry can take: a key of one byte with a one-byte value; a name of one byte with
  // one dimension.
  constexpr uint64_t kLeastEntry = 8 + 1 + 4 + 1;
  constexpr uint64_t kLeastTensor = 8 + 1 + 4 + 8 + 4 + 8;
  if (n_keys_ > std::min(kGgufMaxKeys, cursor_.left() / kLeastEntry))
    return corrupt("the key count at offset 16: expected at most {} ({} bytes are left), found {}",
                   std::min(kGgufMaxKeys, cursor_.left() / kLeastEntry), cursor_.left(), n_keys_);
  if (n_tensors_ > std::min(kGgufMaxTensors, cursor_.left() / kLeastTensor))
    return corrupt(
        "the tensor count at offset 8: expected at most {} ({} bytes are left), found {}",
        std::min(kGgufMaxTensors, cursor_.left() / kLeastTensor), cursor_.left(), n_tensors_);
  return {};
}

Status HeaderReader::read_version() {
  header_.version = TRY(cursor_.number<uint32_t>("the version"));
  if (header_.version == 2 || header_.version == 3) return {};
  if ((header_.version & 0xffff) == 0 && header_.version != 0)
    return error(Code::kUnsupported,
                 "{}: a big-endian GGUF file (version {:#x}); only little-endian "
                 "ones are read, convert it again on or for a little-endian machine",
                 file_.path(), header_.version);
  return error(Code::kUnsupported,
               "{}: GGUF version {} at offset 4; versions 2 and 3 are read, "
               "convert the model again",
               file_.path(), header_.version);
}

Status HeaderReader::read_entry() {
  const uint64_t at = cursor_.offset();
  std::string key;
  TRY(cursor_.append_string(1, kGgufMaxKeyBytes, false, "a metadata key", key));
  if (header_.metadata.contains(key))
    return corrupt("metadata key {} at offset {} is there twice", shown(key), at);
  const std::string field = "metadata key " + shown(key);
  const uint32_t type = TRY(cursor_.number<uint32_t>(field));
  if (type > static_cast<uint32_t>(MetaType::kF64))
    return corrupt("{}: expected a type of 0 to 12 at offset {}, found {}", field,
                   cursor_.offset() - 4, type);
  header_.metadata.set(key, TRY(read_value(static_cast<MetaType>(type), field)));
  return {};
}

Result<bool> HeaderReader::read_bool(const std::string& field) {
  const uint8_t byte = TRY(cursor_.number<uint8_t>(field));
  if (byte > 1)
    return corrupt("{}: expected a bool of 0 or 1 at offset {}, found {}", field,
                   cursor_.offset() - 1, byte);
  return byte == 1;
}

Result<MetaValue> HeaderReader::read_value(MetaType type, const std::string& field) {
  switch (type) {
    case MetaType::kU8:
      return read_number<uint8_t, uint64_t>(type, field);
    case MetaType::kI8:
      return read_number<int8_t, int64_t>(type, field);
    case MetaType::kU16:
      return read_number<uint16_t, uint64_t>(type, field);
    case MetaType::kI16:
      return read_number<int16_t, int64_t>(type, field);
    case MetaType::kU32:
      return read_number<uint32_t, uint64_t>(type, field);
    case MetaType::kI32:
      return read_number<int32_t, int64_t>(type, field);
    case MetaType::kU64:
      return read_number<uint64_t, uint64_t>(type, field);
    case MetaType::kI64:
      return read_number<int64_t, int64_t>(type, field);
    case MetaType::kF32:
      return read_number<float, double>(type, field);
    case MetaType::kF64:
      return read_number<double, double>(type, field);
    case MetaType::kBool: {
      const bool value = TRY(read_bool(field));
      return MetaValue{type, value};
    }
    case MetaType::kString: {
      std::string text;
      TRY(cursor_.append_string(0, kGgufMaxHeaderBytes, false, field, text));
      return MetaValue{type, std::move(text)};
    }
    case MetaType::kArray:
      return read_array(field);
  }
  return corrupt("{}: type {}", field, static_cast<uint32_t>(type));
}

Result<MetaValue> HeaderReader::read_array(const std::string& field) {
  const uint64_t at = cursor_.offset();
  const uint32_t element = TRY(cursor_.number<uint32_t>(field));
  if (element == static_cast<uint32_t>(MetaType::kArray))
    return corrupt("{}: an array of arrays at offset {}, which this reader does not accept", field,
                   at);
  if (element > static_cast<uint32_t>(MetaType::kF64))
    return corrupt("{}: expected an element type of 0 to 12 at offset {}, found {}", field, at,
                   element);
  MetaArray array{static_cast<MetaType>(element), 0, {}};
  array.count = TRY(cursor_.number<uint64_t>(field));
  const bool strings = array.element == MetaType::kString;
  const uint64_t least_bytes = strings ? 8 : meta_type_bytes(array.element);
  if (array.count > cursor_.left() / least_bytes)
    return corrupt(
        "{}: an array of {} elements at offset {}, but only {} bytes are left; the file is "
        "truncated or damaged, fetch it again",
        field, array.count, at, cursor_.left());
  const uint64_t data_at = cursor_.offset();
  if (strings) {
    for (uint64_t i = 0; i < array.count; ++i)
      TRY(cursor_.append_string(0, kGgufMaxHeaderBytes, true, field, array.bytes));
  } else {
    TRY(cursor_.append(array.count * least_bytes, field, array.bytes));
    if (array.element == MetaType::kBool) TRY(check_bools(array, field, data_at));
  }
  return MetaValue{MetaType::kArray, std::move(array)};
}

Status HeaderReader::check_bools(const MetaArray& array, const std::string& field,
                                 uint64_t offset) {
  for (uint64_t i = 0; i < array.count; ++i)
    if (static_cast<uint8_t>(array.bytes[i]) > 1)
      return corrupt("{}: expected a bool of 0 or 1 at offset {}, found {}", field, offset + i,
                     static_cast<uint8_t>(array.bytes[i]));
  return {};
}

Status HeaderReader::read_alignment() {
  if (!header_.metadata.contains("general.alignment")) return {};
  auto alignment = header_.metadata.get_uint("general.alignment");
  if (!alignment.ok()) return std::move(alignment).error().within(file_.path());
  if (!is_power_of_two(*alignment) || *alignment > kGgufMaxAlignment)
    return corrupt("metadata key 'general.alignment': expected a power of two up to {}, found {}",
                   kGgufMaxAlignment, *alignment);
  header_.alignment = *alignment;
  return {};
}

Status HeaderReader::read_dims(TensorInfo& tensor) {
  const uint64_t at = cursor_.offset();
  const uint32_t n_dims = TRY(cursor_.number<uint32_t>("a tensor's dimension count"));
  if (n_dims < 1 || n_dims > 4)
    return corrupt("tensor {}: expected 1 to 4 dimensions at offset {}, found {}",
                   shown(tensor.name), at, n_dims);
  uint64_t n_values = 1;
  for (uint32_t i = 0; i < n_dims; ++i) {
    const uint64_t dim = TRY(cursor_.number<uint64_t>("a tensor's dimension"));
    const auto product = checked_mul(n_values, dim);
    // Every type takes at least a bit a value: more values than bits in the file cannot be.
    if (dim == 0 || !product || *product / 8 > file_.size())
      return corrupt(
          "tensor {}: dimension {} at offset {} is {}: expected at least 1, and a product "
          "that the file's {} bytes can hold",
          shown(tensor.name), i, cursor_.offset() - 8, dim, file_.size());
    n_values = *product;
    tensor.dims.push_back(static_cast<int64_t>(dim));
  }
  return {};
}

Status HeaderReader::read_tensor() {
  const uint64_t at = cursor_.offset();
  TensorInfo tensor;
  TRY(cursor_.append_string(1, kGgufMaxNameBytes, false, "a tensor name", tensor.name));
  if (!names_.emplace(tensor.name, header_.tensors.size()).second)
    return corrupt("tensor {} at offset {} is there twice", shown(tensor.name), at);
  TRY(read_dims(tensor));
  const uint32_t type = TRY(cursor_.number<uint32_t>("a tensor's type"));
  tensor.codec = find_codec_by_ggml_type(type);
  if (!tensor.codec) {
    const std::string_view name = ggml_type_name(type);
    return error(Code::kUnsupported,
                 "{}: tensor {} has type {} ({}), which this build cannot read; "
                 "convert the model to another type",
                 file_.path(), shown(tensor.name), type, name.empty() ? "not a GGML type" : name);
  }
  if (tensor.dims[0] % tensor.codec->block_elems != 0)
    return corrupt("tensor {}: {} stores blocks of {} values, but its first dimension is {}",
                   shown(tensor.name), tensor.codec->name, tensor.codec->block_elems,
                   tensor.dims[0]);
  const uint64_t offset = TRY(cursor_.number<uint64_t>("a tensor's offset"));
  if (offset % header_.alignment != 0)
    return corrupt("tensor {}: expected an offset aligned to {} at offset {}, found {}",
                   shown(tensor.name), header_.alignment, cursor_.offset() - 8, offset);
  tensor.segments.push_back({file_index_, offset, tensor.bytes()});
  header_.tensors.push_back(std::move(tensor));
  return {};
}

// Turns offsets into absolute ones; every tensor must lie inside the file and apart from the
// others.
Status HeaderReader::place_tensors() {
  const auto data_start = checked_align(cursor_.offset(), header_.alignment);
  header_.data_start = *data_start;  // both far below 2^63
  std::vector<const TensorInfo*> order;
  order.reserve(header_.tensors.size());
  for (TensorInfo& tensor : header_.tensors) {
    TensorSegment& segment = tensor.segments[0];
    const auto begin = checked_add(segment.offset, header_.data_start);
    const auto end = begin ? checked_add(*begin, segment.bytes) : std::nullopt;
    if (!end || *end > file_.size())
      return corrupt(
          "tensor {}: its {} bytes at data offset {} end past the file's {} bytes; the file "
          "is truncated or damaged, fetch it again",
          shown(tensor.name), segment.bytes, segment.offset, file_.size());
    segment.offset = *begin;
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return a->segments[0].offset < b->segments[0].offset;
  });
  for (size_t i = 1; i < order.size(); ++i) {
    const TensorSegment& before = order[i - 1]->segments[0];
    if (before.offset + before.bytes > order[i]->segments[0].offset)
      return corrupt("tensor {} at offset {} overlaps tensor {}, which ends at {}",
                     shown(order[i]->name), order[i]->segments[0].offset, shown(order[i - 1]->name),
                     before.offset + before.bytes);
  }
  return {};
}

}  // namespace

Result<GgufHeader> read_gguf_header(const File& file, int file_index) {
  return HeaderReader(file, file_index).read();
}

std::string_view ggml_type_name(uint32_t type) {
  // By id. The gaps are types that GGML gave up: their ids are not used again.
  static constexpr std::string_view kNames[] = {
      "F32",   "F16",        "Q4_0",       "Q4_1",       "Q4_2",     "Q4_3",     "Q5_0",
      "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
      "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
      "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
      "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
      "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4"};
  return type < std::size(kNames) ? kNames[type] : std::string_view();
}

}  // namespace venturi
