// An output that is one of the inputs: the old model would be gone, whatever came of the new one.
#pragma once

#include <string>

#include "formats/model_file.h"

namespace venturi {

// Whether the two paths lead to the same file, by whatever links.
bool is_same_file(const std::string& a, const std::string& b);

// Code::kInvalidArgument when writing `path` would replace a file that `model` was read from.
Status refuse_overwrite(const ModelFile& model, const std::string& path);

}  // namespace venturi
