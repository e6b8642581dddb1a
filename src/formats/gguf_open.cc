// Opening a GGUF model: one file, or every part of a split one.
//
// The parts of a split model are named PREFIX-00001-of-00003.gguf; each carries split.no (from 0),
// split.count and split.tensors.count (of all parts together), and its own tensors. The model's
// metadata are those of the first part.
#include <algorithm>

#include "formats/byte_cursor.h"
#include "formats/gguf.h"

namespace venturi {

namespace {

constexpr uint64_t kMaxParts = 99'999;  // five digits in the name

// Splits "…-00002-of-00003.gguf" into the prefix before "-00002" and the part number 1 (from 0).
struct PartName {
  std::string prefix;
  uint64_t number;
  uint64_t count;
};

std::optional<uint64_t> five_digits(std::string_view text) {
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  return value;
}

std::optional<PartName> parse_part_name(std::string_view path) {
  constexpr size_t kTail = std::string_view("-00001-of-00003.gguf").size();
  if (path.size() <= kTail) return std::nullopt;
  const std::string_view tail = path.substr(path.size() - kTail);
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || tail.substr(15) != ".gguf")
    return std::nullopt;
  const auto number = five_digits(tail.substr(1, 5));
  const auto count = five_digits(tail.substr(10, 5));
  if (!number || !count || *number < 1 || *number > *count) return std::nullopt;
  return PartName{std::string(path.substr(0, path.size() - kTail)), *number - 1, *count};
}

Status check_part(const GgufHeader& header, uint64_t number, uint64_t count,
                  const std::string& path) {
  const auto found_number = header.metadata.get_uint("split.no");
  const auto found_count = header.metadata.get_uint("split.count");
  if (!found_number.ok() || !found_count.ok() || *found_number != number || *found_count != count)
    return error(Code::kCorrupt,
                 "{}: expected split.no {} and split.count {}, found {} and {}; the "
                 "part belongs to another model or was renamed",
                 path, number, count, found_number.ok() ? fmt::to_string(*found_number) : "none",
                 found_count.ok() ? fmt::to_string(*found_count) : "none");
  return {};
}

Status add_part(ModelFile& model, File file, GgufHeader header) {
  for (TensorInfo& tensor : header.tensors) {
    if (!model.by_name.emplace(tensor.name, model.tensors.size()).second)
      return error(Code::kCorrupt, "{}: tensor {} is in an earlier part too", file.path(),
                   shown(tensor.name));
    model.tensors.push_back(std::move(tensor));
  }
  model.files.push_back(std::move(file));
  return {};
}

Status open_parts(ModelFile& model, const std::string& path, uint64_t count) {
  const auto name = parse_part_name(path);
  if (!name || name->count != count)
    return error(Code::kCorrupt,
                 "{} is one of {} parts, and the others are found by name: "
                 "expected a name ending in -00001-of-{:05}.gguf",
                 path, count, count);
  uint64_t n_tensors = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const std::string part_path = gguf_part_path(name->prefix, i, count);
    auto file = File::open(part_path);
    if (!file.ok() && file.error().code == Code::kNotFound)
      return error(Code::kNotFound, "part {} of {} is missing: expected the file {}", i + 1, count,
                   part_path);
    if (!file.ok()) return std::move(file).error();
    GgufHeader header = TRY(read_gguf_header(*file, static_cast<int>(i)));
    TRY(check_part(header, i, count, part_path));
    if (i == 0) {
      model.metadata = std::move(header.metadata);
      auto total = model.metadata.uint_or("split.tensors.count", 0);
      if (!total.ok()) return std::move(total).error().within(part_path);
      n_tensors = *total;
    }
    TRY(add_part(model, std::move(*file), std::move(header)));
  }
  if (n_tensors != 0 && n_tensors != model.tensors.size())
    return error(Code::kCorrupt,
                 "{}: split.tensors.count: expected {} tensors in all parts, found {}", path,
                 n_tensors, model.tensors.size());
  return {};
}

}  // namespace

std::string gguf_part_path(std::string_view prefix, uint64_t number, uint64_t count) {
  return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, number + 1, count);
}

Result<std::unique_ptr<ModelFile>> open_gguf(const std::string& path) {
  File file = TRY(File::open(path));
  GgufHeader header = TRY(read_gguf_header(file, 0));
  auto parts = header.metadata.uint_or("split.count", 1);
  if (!parts.ok()) return std::move(parts).error().within(path);
  if (*parts > kMaxParts)
    return error(Code::kCorrupt, "{}: metadata key 'split.count': expected at most {}, found {}",
                 path, kMaxParts, *parts);
  auto model = std::make_unique<ModelFile>();
  model->path = path;
  if (*parts > 1) {
    TRY(open_parts(*model, path, *parts));
  } else {
    model->metadata = std::move(header.metadata);
    TRY(add_part(*model, std::move(file), std::move(header)));
  }
  return model;
}

}  // namespace venturi
