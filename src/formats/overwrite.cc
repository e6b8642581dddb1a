#include "formats/overwrite.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

namespace venturi {

namespace {

bool same(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

// Of a Hugging Face directory: what a model is read from, beside the safetensors.
bool is_part_of_directory(const std::filesystem::path& path) {
  const std::string ending = path.extension().string();
  return ending == ".json" || ending == ".jinja" || ending == ".model";
}

}  // namespace

bool is_same_file(const std::string& a, const std::string& b) {
  struct stat first, second;
  return ::stat(a.c_str(), &first) == 0 && ::stat(b.c_str(), &second) == 0 && same(first, second);
}

Status refuse_overwrite(const ModelFile& model, const std::string& path) {
  struct stat output;
  if (::stat(path.c_str(), &output) != 0) return {};
  const auto refusal = [&](const std::string& input) {
    return error(Code::kInvalidArgument, "{} is {}, which the model is read from; write to another place", path,
                 path == input ? "the file itself" : input);
  };
  for (const File& file : model.files) {
    struct stat input;
    if (::fstat(file.fd(), &input) == 0 && same(input, output)) return refusal(file.path());
  }
  std::error_code ignored;
  if (std::filesystem::is_directory(model.path, ignored))
    for (const auto& entry : std::filesystem::directory_iterator(model.path, ignored))
      if (is_part_of_directory(entry.path()) && is_same_file(entry.path().string(), path)) return refusal(entry.path().string());
  return {};
}

}  // namespace venturi
