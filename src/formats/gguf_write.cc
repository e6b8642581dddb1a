#include "formats/gguf_write.h"

#include <cassert>
#include <unordered_set>

#include "base/checked.h"
#include "base/file.h"
#include "formats/byte_cursor.h"
#include "formats/gguf.h"

namespace venturi {

namespace {

class Bytes {
 public:
  template <typename T>
  void number(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void string(std::string_view text) {
    number<uint64_t>(text.size());
    text_ += text;
  }
  void raw(std::string_view bytes) { text_ += bytes; }
  void pad(uint64_t alignment) { text_.resize(*checked_align(text_.size(), alignment)); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

void put_value(Bytes& out, const MetaValue& value) {
  const auto unsigned_value = [&] { return std::get<uint64_t>(value.value); };
  const auto signed_value = [&] { return std::get<int64_t>(value.value); };
  switch (value.type) {
    case MetaType::kU8:
      return out.number(static_cast<uint8_t>(unsigned_value()));
    case MetaType::kU16:
      return out.number(static_cast<uint16_t>(unsigned_value()));
    case MetaType::kU32:
      return out.number(static_cast<uint32_t>(unsigned_value()));
    case MetaType::kU64:
      return out.number(unsigned_value());
    case MetaType::kI8:
      return out.number(static_cast<int8_t>(signed_value()));
    case MetaType::kI16:
      return out.number(static_cast<int16_t>(signed_value()));
    case MetaType::kI32:
      return out.number(static_cast<int32_t>(signed_value()));
    case MetaType::kI64:
      return out.number(signed_value());
    case MetaType::kF32:
      return out.number(static_cast<float>(std::get<double>(value.value)));
    case MetaType::kF64:
      return out.number(std::get<double>(value.value));
    case MetaType::kBool:
      return out.number(static_cast<uint8_t>(std::get<bool>(value.value)));
    case MetaType::kString:
      return out.string(std::get<std::string>(value.value));
    case MetaType::kArray: {
      const auto& array = std::get<MetaArray>(value.value);
      out.number(static_cast<uint32_t>(array.element));
      out.number(array.count);
      return out.raw(array.bytes);
    }
  }
}

bool describes_layout(std::string_view key) {
  return key == "general.alignment" || key.starts_with("split.");
}

// Tensors [begin, end) of the list make one file.
struct Part {
  size_t begin, end;
};

std::vector<Part> cut_parts(const std::vector<GgufTensor>& tensors, uint64_t part_bytes) {
  std::vector<Part> parts{{0, 0}};
  uint64_t held = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t bytes = tensors[i].bytes();
    if (part_bytes != 0 && parts.back().end > parts.back().begin && held + bytes > part_bytes) {
      parts.push_back({i, i});
      held = 0;
    }
    parts.back().end = i + 1;
    held += bytes;
  }
  return parts;
}

Metadata part_metadata(const Metadata& metadata, size_t number, size_t n_parts, size_t n_tensors) {
  Metadata out;
  if (number == 0)
    for (const auto& [key, value] : metadata.entries())
      if (!describes_layout(key)) out.set(key, value);
  if (n_parts > 1) {
    out.set("split.no", {MetaType::kU16, uint64_t{number}});
    out.set("split.count", {MetaType::kU16, uint64_t{n_parts}});
    out.set("split.tensors.count", {MetaType::kI32, static_cast<int64_t>(n_tensors)});
  }
  return out;
}

std::string header(const Metadata& metadata, std::span<const GgufTensor> tensors) {
  Bytes out;
  out.raw("GGUF");
  out.number<uint32_t>(3);
  out.number<uint64_t>(tensors.size());
  out.number<uint64_t>(metadata.entries().size());
  for (const auto& [key, value] : metadata.entries()) {
    out.string(key);
    out.number(static_cast<uint32_t>(value.type));
    put_value(out, value);
  }
  uint64_t offset = 0;
  for (const GgufTensor& tensor : tensors) {
    out.string(tensor.name);
    out.number(static_cast<uint32_t>(tensor.dims.size()));
    for (const int64_t dim : tensor.dims) out.number(static_cast<uint64_t>(dim));
    out.number(tensor.codec->ggml_type);
    out.number(offset);
    offset += *checked_align(tensor.bytes(), kGgufAlignment);
  }
  out.pad(kGgufAlignment);
  return out.text();
}

uint64_t data_bytes(std::span<const GgufTensor> tensors) {
  uint64_t bytes = 0;
  for (const GgufTensor& tensor : tensors) bytes += *checked_align(tensor.bytes(), kGgufAlignment);
  return bytes;
}

Status check_tensors(const std::vector<GgufTensor>& tensors) {
  std::unordered_set<std::string_view> names;
  for (const GgufTensor& tensor : tensors) {
    if (tensor.name.empty() || tensor.name.size() > kGgufMaxNameBytes)
      return error(Code::kInvalidArgument, "tensor {}: a name of 1 to {} bytes is needed",
                   shown(tensor.name), kGgufMaxNameBytes);
    if (!names.insert(tensor.name).second)
      return error(Code::kInvalidArgument, "tensor {} is listed twice", shown(tensor.name));
    if (tensor.dims.empty() || tensor.dims.size() > 4)
      return error(Code::kInvalidArgument, "tensor {} has {} dimensions, 1 to 4 can be written",
                   shown(tensor.name), tensor.dims.size());
    if (tensor.dims[0] % tensor.codec->block_elems != 0)
      return error(Code::kInvalidArgument, "tensor {}: {} stores blocks of {} values, rows have {}",
                   shown(tensor.name), tensor.codec->name, tensor.codec->block_elems,
                   tensor.dims[0]);
  }
  return {};
}

Status write_tensor(AtomicFile& file, const GgufTensor& tensor, size_t index,
                    const TensorSource& source) {
  const uint64_t begin = file.size();
  const uint64_t wanted = tensor.bytes();
  TRY(source(index, [&](std::span<const uint8_t> piece) { return file.append(piece); }));
  const uint64_t written = file.size() - begin;
  if (written != wanted)
    return error(Code::kInvalidArgument, "tensor {}: expected {} bytes to write, was given {}",
                 shown(tensor.name), wanted, written);
  const uint8_t zeros[kGgufAlignment] = {};
  return file.append(std::span(zeros, *checked_align(written, kGgufAlignment) - written));
}

}  // namespace

uint64_t GgufTensor::bytes() const {
  uint64_t n = 1;
  for (const int64_t dim : dims) n *= static_cast<uint64_t>(dim);
  return codec->bytes(n);
}

Result<std::vector<std::string>> write_gguf(const std::string& path, const Metadata& metadata,
                                            const std::vector<GgufTensor>& tensors,
                                            const TensorSource& source,
                                            const GgufWriteOptions& options) {
  TRY(check_tensors(tensors));
  const std::vector<Part> parts = cut_parts(tensors, options.part_bytes);
  std::string_view prefix = path;
  if (prefix.ends_with(".gguf")) prefix.remove_suffix(5);

  std::vector<std::string> paths;
  for (size_t i = 0; i < parts.size(); ++i) {
    paths.push_back(parts.size() == 1 ? path : gguf_part_path(prefix, i, parts.size()));
    if (options.check) TRY(options.check(paths.back()));
  }
  std::vector<AtomicFile> files;  // committed together: no first part without the last
  for (size_t i = 0; i < parts.size(); ++i) {
    files.push_back(TRY(AtomicFile::create(paths[i])));
    const std::span own(tensors.data() + parts[i].begin, parts[i].end - parts[i].begin);
    const std::string head = header(part_metadata(metadata, i, parts.size(), tensors.size()), own);
    TRY(files.back().reserve(head.size() + data_bytes(own)));
    TRY(files.back().append(head));
  }
  for (size_t i = 0; i < parts.size(); ++i)
    for (size_t index = parts[i].begin; index < parts[i].end; ++index)
      TRY(write_tensor(files[i], tensors[index], index, source));
  TRY(commit_all(files));
  return paths;
}

}  // namespace venturi
