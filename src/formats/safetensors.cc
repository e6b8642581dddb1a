#include "formats/safetensors.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "base/checked.h"
#include "formats/byte_cursor.h"
#include "formats/json_text.h"

namespace venturi {

namespace {

constexpr uint64_t kPrefixBytes = 8;

// Takes the header's JSON event by event: nothing is stored that is not a tensor or a metadata
// string, and a key seen twice is noticed, which a parsed object could not show.
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderHandler(SafetensorsHeader& out) : out_(out) {}

  const std::string& problem() const { return problem_; }

  bool start_object(size_t) override {
    switch (state_) {
      case State::kStart:
        state_ = State::kTop;
        return true;
      case State::kTensorStart:
        state_ = State::kTensor;
        return true;
      case State::kMetadataStart:
        state_ = State::kMetadata;
        return true;
      default:
        return fail("an object where none belongs");
    }
  }

  bool key(string_t& name) override {
    switch (state_) {
      case State::kTop:
        if (!names_.insert(name).second) return fail("key " + shown(name) + " is there twice");
        if (name == "__metadata__") {
          state_ = State::kMetadataStart;
          return true;
        }
        tensor_ = {};
        tensor_.name = name;
        seen_dtype_ = seen_shape_ = seen_offsets_ = false;
        state_ = State::kTensorStart;
        return true;
      case State::kTensor:
        if (name == "dtype") return enter(State::kDtype, seen_dtype_, name);
        if (name == "shape") return enter(State::kShapeStart, seen_shape_, name);
        if (name == "data_offsets") return enter(State::kOffsetsStart, seen_offsets_, name);
        return fail("tensor " + shown(tensor_.name) + " has an unknown field " + shown(name));
      case State::kMetadata:
        if (!metadata_names_.insert(name).second)
          return fail("__metadata__ key " + shown(name) + " is there twice");
        metadata_key_ = name;
        return true;
      default:
        return fail("a key where none belongs");
    }
  }

  bool string(string_t& value) override {
    if (state_ == State::kDtype) {
      tensor_.dtype = value;
      state_ = State::kTensor;
      return true;
    }
    if (state_ == State::kMetadata) {
      out_.metadata.emplace_back(metadata_key_, value);
      return true;
    }
    return fail("a string where none belongs");
  }

  bool start_array(size_t) override {
    if (state_ == State::kShapeStart)
      state_ = State::kShape;
    else if (state_ == State::kOffsetsStart)
      state_ = State::kOffsets;
    else
      return fail("an array where none belongs");
    return true;
  }

  bool number_unsigned(uint64_t value) override {
    if (state_ == State::kShape) {
      if (tensor_.shape.size() == kSafetensorsMaxDims || value > INT64_MAX)
        return fail(fmt::format("tensor {}: expected up to {} dimensions below 2^63",
                                shown(tensor_.name), kSafetensorsMaxDims));
      tensor_.shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (state_ == State::kOffsets && n_offsets_ < 2) {
      offsets_[n_offsets_++] = value;
      return true;
    }
    return fail("a number where none belongs");
  }

  bool end_array() override {
    if (state_ == State::kOffsets && n_offsets_ != 2)
      return fail("tensor " + shown(tensor_.name) + ": data_offsets needs two numbers");
    state_ = State::kTensor;
    return true;
  }

  bool end_object() override {
    if (state_ == State::kTensor) {
      if (!seen_dtype_ || !seen_shape_ || !seen_offsets_)
        return fail("tensor " + shown(tensor_.name) + " lacks dtype, shape or data_offsets");
      if (!place_tensor()) return false;
      state_ = State::kTop;
    } else if (state_ == State::kMetadata) {
      state_ = State::kTop;
    } else {
      state_ = State::kEnd;
    }
    return true;
  }

  bool null() override { return fail("a null where none belongs"); }
  bool boolean(bool) override { return fail("a bool where none belongs"); }
  bool number_integer(int64_t) override { return fail("a negative number"); }
  bool number_float(double, const string_t&) override {
    return fail("a fraction where none belongs");
  }
  bool binary(binary_t&) override { return fail("binary data"); }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return fail(fmt::format("not valid JSON at byte {} of the header", position));
  }

 private:
  enum class State {
    kStart,
    kTop,
    kTensorStart,
    kTensor,
    kDtype,
    kShapeStart,
    kShape,
    kOffsetsStart,
    kOffsets,
    kMetadataStart,
    kMetadata,
    kEnd
  };

  bool fail(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
    return false;
  }

  bool enter(State next, bool& seen, const std::string& name) {
    if (std::exchange(seen, true))
      return fail("tensor " + shown(tensor_.name) + " has two fields " + shown(name));
    state_ = next;
    n_offsets_ = 0;
    return true;
  }

  // Shape, type and byte range must agree.
  bool place_tensor() {
    const uint64_t type_bytes = safetensors_type_bytes(tensor_.dtype);
    if (type_bytes == 0)
      return fail("tensor " + shown(tensor_.name) + " has the unknown dtype " +
                  shown(tensor_.dtype));
    std::optional<uint64_t> bytes = type_bytes;
    for (const int64_t dim : tensor_.shape) {
      bytes = checked_mul(*bytes, static_cast<uint64_t>(dim));
      if (!bytes)
        return fail("tensor " + shown(tensor_.name) + ": the shape's product passes 2^64");
    }
    if (offsets_[0] > offsets_[1] || offsets_[1] - offsets_[0] != *bytes)
      return fail(fmt::format(
          "tensor {}: data_offsets [{}, {}]: expected a range of {} bytes, as shape and "
          "dtype say",
          shown(tensor_.name), offsets_[0], offsets_[1], *bytes));
    tensor_.offset = offsets_[0];
    tensor_.bytes = *bytes;
    out_.tensors.push_back(std::move(tensor_));
    return true;
  }

  SafetensorsHeader& out_;
  State state_ = State::kStart;
  SafeTensor tensor_;
  bool seen_dtype_ = false, seen_shape_ = false, seen_offsets_ = false;
  uint64_t offsets_[2] = {};
  int n_offsets_ = 0;
  std::string metadata_key_;
  std::string problem_;
  std::unordered_set<std::string> names_, metadata_names_;
};

// The ranges, in order, must cover [0, data_bytes) exactly.
Status check_cover(const File& file, SafetensorsHeader& header, uint64_t data_bytes) {
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const SafeTensor& a, const SafeTensor& b) {
              return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
            });
  uint64_t end = 0;
  for (const SafeTensor& tensor : header.tensors) {
    if (tensor.offset != end)
      return error(Code::kCorrupt, "{}: tensor {} begins at data offset {}, expected {}: {}",
                   file.path(), shown(tensor.name), tensor.offset, end,
                   tensor.offset < end ? "it overlaps another" : "there is a hole before it");
    end += tensor.bytes;  // place_tensor showed that offset + bytes does not wrap
  }
  if (end != data_bytes)
    return error(
        Code::kCorrupt, "{}: the tensors end at data offset {}, the file has {} bytes of data; {}",
        file.path(), end, data_bytes,
        end > data_bytes ? "it is truncated, fetch it again" : "what follows belongs to no tensor");
  return {};
}

// {tensor name: file name} of model.safetensors.index.json.
Result<std::unordered_map<std::string, std::string>> read_index(const std::string& path) {
  const nlohmann::json index = TRY(read_json_file(path, kSafetensorsMaxHeaderBytes));
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object())
    return error(Code::kCorrupt, "{}: expected an object 'weight_map'", path);
  std::unordered_map<std::string, std::string> out;
  for (const auto& [name, file] : map->items()) {
    if (!file.is_string())
      return error(Code::kCorrupt, "{}: weight_map {}: expected a file name", path, shown(name));
    const std::string& file_name = file.get_ref<const std::string&>();
    // A plain name: an index may not reach outside its folder.
    if (file_name.empty() || file_name.find('/') != std::string::npos ||
        file_name.find('\0') != std::string::npos || !file_name.ends_with(".safetensors"))
      return error(Code::kCorrupt,
                   "{}: weight_map {}: expected the name of a .safetensors file in the same "
                   "folder, found {}",
                   path, shown(name), shown(file_name));
    out.emplace(name, file_name);
  }
  return out;
}

Status add_shard(SafetensorsModel& model, const std::string& path) {
  File file = TRY(File::open(path));
  SafetensorsHeader header =
      TRY(read_safetensors_header(file, static_cast<int>(model.files.size())));
  model.files.push_back(std::move(file));
  std::move(header.tensors.begin(), header.tensors.end(), std::back_inserter(model.tensors));
  return {};
}

Result<SafetensorsModel> open_shards(const std::string& folder, const std::string& index_path) {
  const auto index = TRY(read_index(index_path));
  std::vector<std::string> shards;
  for (const auto& [name, shard] : index) shards.push_back(shard);
  std::sort(shards.begin(), shards.end());
  shards.erase(std::unique(shards.begin(), shards.end()), shards.end());

  SafetensorsModel model;
  for (const std::string& shard : shards) {
    auto status = add_shard(model, folder + "/" + shard);
    if (!status.ok() && status.error().code == Code::kNotFound)
      return error(Code::kNotFound, "{} is missing, which {} names; fetch it", folder + "/" + shard,
                   index_path);
    if (!status.ok()) return std::move(status).error();
  }
  std::unordered_set<std::string_view> found;
  for (const SafeTensor& tensor : model.tensors) {
    const auto it = index.find(tensor.name);
    const std::string& shard = shards[static_cast<size_t>(tensor.file)];
    if (it == index.end() || it->second != shard)
      return error(Code::kCorrupt, "{}: tensor {} is in {}, which the index does not say",
                   index_path, shown(tensor.name), shard);
    found.insert(tensor.name);
  }
  for (const auto& [name, shard] : index)
    if (!found.contains(name))
      return error(Code::kCorrupt, "{}: tensor {} is not in {}", index_path, shown(name), shard);
  return model;
}

uint64_t tensor_bytes(const SafeTensor& tensor) {
  uint64_t bytes = safetensors_type_bytes(tensor.dtype);
  for (const int64_t dim : tensor.shape) bytes *= static_cast<uint64_t>(dim);
  return bytes;
}

// A file with its header, and room for the tensors.
Result<AtomicFile> begin_file(const std::string& path, std::span<const SafeTensor> tensors,
                              const std::vector<std::pair<std::string, std::string>>& metadata) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [key, value] : metadata) json["__metadata__"][key] = value;
  uint64_t offset = 0;
  for (const SafeTensor& tensor : tensors) {
    const uint64_t end = offset + tensor_bytes(tensor);
    json[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data begin aligned

  AtomicFile file = TRY(AtomicFile::create(path));
  const uint64_t header_bytes = text.size();
  TRY(file.reserve(kPrefixBytes + header_bytes + offset));
  TRY(file.append(std::span(reinterpret_cast<const uint8_t*>(&header_bytes), kPrefixBytes)));
  TRY(file.append(text));
  return file;
}

}  // namespace

uint64_t safetensors_type_bytes(std::string_view dtype) {
  static constexpr std::pair<std::string_view, uint64_t> kTypes[] = {
      {"F16", 2}, {"BF16", 2},    {"F32", 4},     {"F64", 8},    {"BOOL", 1}, {"U8", 1},
      {"I8", 1},  {"U16", 2},     {"I16", 2},     {"U32", 4},    {"I32", 4},  {"U64", 8},
      {"I64", 8}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}};
  for (const auto& [name, bytes] : kTypes)
    if (name == dtype) return bytes;
  return 0;
}

Result<SafetensorsHeader> read_safetensors_header(const File& file, int file_index) {
  ByteCursor cursor(file, file.size());
  const uint64_t header_bytes = TRY(cursor.number<uint64_t>("the header length"));
  if (header_bytes < 2 || header_bytes > kSafetensorsMaxHeaderBytes || header_bytes > cursor.left())
    return error(Code::kCorrupt,
                 "{}: the header length at offset 0: expected 2 to {}, found {}; not a "
                 "safetensors file, or truncated",
                 file.path(), std::min(kSafetensorsMaxHeaderBytes, cursor.left()), header_bytes);
  std::string text;
  TRY(cursor.append(header_bytes, "the header", text));

  SafetensorsHeader header;
  HeaderHandler handler(header);
  if (!nlohmann::json::sax_parse(text, &handler))
    return error(Code::kCorrupt, "{}: safetensors header: {}; fetch the file again", file.path(),
                 handler.problem());
  TRY(check_cover(file, header, cursor.left()));
  for (SafeTensor& tensor : header.tensors) {
    tensor.file = file_index;
    tensor.offset += kPrefixBytes + header_bytes;
  }
  return header;
}

Result<SafetensorsModel> open_safetensors_folder(const std::string& folder) {
  const std::string whole = folder + "/model.safetensors";
  const std::string index = whole + ".index.json";
  std::error_code ignored;
  if (std::filesystem::exists(whole, ignored)) {
    SafetensorsModel model;
    TRY(add_shard(model, whole));
    return model;
  }
  if (std::filesystem::exists(index, ignored)) return open_shards(folder, index);
  return error(Code::kNotFound, "{}: expected model.safetensors or model.safetensors.index.json",
               folder);
}

std::vector<SafetensorsPart> cut_safetensors(const std::string& folder,
                                             const std::vector<SafeTensor>& tensors,
                                             uint64_t part_bytes) {
  std::vector<SafetensorsPart> parts = {{"", 0, 0}};
  uint64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t more = tensor_bytes(tensors[i]);
    if (part_bytes > 0 && bytes > 0 && bytes + more > part_bytes) {
      parts.push_back({"", i, i});
      bytes = 0;
    }
    parts.back().end = i + 1;
    bytes += more;
  }
  for (size_t i = 0; i < parts.size(); ++i)
    parts[i].path = parts.size() == 1 ? folder + "/model.safetensors"
                                      : fmt::format("{}/model-{:05}-of-{:05}.safetensors", folder,
                                                    i + 1, parts.size());
  return parts;
}

nlohmann::json safetensors_index(const std::vector<SafetensorsPart>& parts,
                                 const std::vector<SafeTensor>& tensors) {
  nlohmann::json map = nlohmann::json::object();
  uint64_t total = 0;
  for (const SafetensorsPart& part : parts)
    for (size_t i = part.begin; i < part.end; ++i) {
      map[tensors[i].name] = std::filesystem::path(part.path).filename().string();
      total += tensor_bytes(tensors[i]);
    }
  return {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(map)}};
}

Result<std::vector<AtomicFile>> write_safetensors(
    const std::vector<SafetensorsPart>& parts, const std::vector<SafeTensor>& tensors,
    const std::vector<std::pair<std::string, std::string>>& metadata,
    const SafetensorsSource& source) {
  std::vector<AtomicFile> files;
  for (const SafetensorsPart& part : parts)
    files.push_back(TRY(begin_file(
        part.path, std::span(tensors).subspan(part.begin, part.end - part.begin), metadata)));
  for (size_t p = 0; p < parts.size(); ++p)
    for (size_t i = parts[p].begin; i < parts[p].end; ++i) {
      AtomicFile& file = files[p];
      const uint64_t begin = file.size(), wanted = tensor_bytes(tensors[i]);
      TRY(source(i, [&](std::span<const uint8_t> piece) { return file.append(piece); }));
      if (file.size() - begin != wanted)
        return error(Code::kInvalidArgument, "tensor {}: expected {} bytes to write, was given {}",
                     shown(tensors[i].name), wanted, file.size() - begin);
    }
  return files;
}

Result<AtomicFile> write_safetensors(
    const std::string& path, const std::vector<SafeTensor>& tensors,
    const std::vector<std::pair<std::string, std::string>>& metadata,
    const SafetensorsSource& source) {
  const std::vector<SafetensorsPart> whole = {{path, 0, tensors.size()}};
  auto files = TRY(write_safetensors(whole, tensors, metadata, source));
  return std::move(files.front());
}

}  // namespace venturi
