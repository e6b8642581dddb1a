// The way back: config.json from a model's keys.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"
#include "formats/hf_architecture.h"
#include "formats/model_file.h"

namespace venturi {

// What all families spell the same, then what the family's own set_config does to it. `dtype` is
// the codec's name of the matrices.
Result<nlohmann::json> hf_config_json(const ModelFile& model, const HfArchitecture& architecture,
                                      const HfClass& its_class, std::string_view dtype);

// For set_config: the key ARCH.name as `field`, nothing where the model has no such key.
Status put_uint(const ModelFile& model, std::string_view name, std::string_view field,
                nlohmann::json& config);
Status put_number(const ModelFile& model, std::string_view name, std::string_view field,
                  nlohmann::json& config);

// Fields that a class has a default of its own for: written also where the model leaves them to be
// worked out.
struct HeadDefaults {
  bool size = false, n_kv_heads = false;
};
// head_dim and num_key_value_heads, of heads whose keys and values have one size and are rotated
// whole: others are refused, since the config has no words for them.
Status put_heads(const ModelFile& model, HeadDefaults defaults, nlohmann::json& config);

// moe_intermediate_size: the key, else the rows of an expert.
Status put_expert_width(const ModelFile& model, nlohmann::json& config);

// Another name for a field that is there.
void rename_field(nlohmann::json& config, std::string_view from, std::string_view to);

// The shortest decimal that is the same f32: 1e-05, not 9.99999974e-06.
double shortest(double value);

// The decimal near `exact` with the fewest digits for which `same` holds; else `exact`.
double fewest_digits(double exact, const std::function<bool(double)>& same);

// query_pre_attn_scalar of Gemma: what attention.scale is the inverse square root of. Without that
// key, the heads' size, or d_model / n_heads in the largest model, which is told by its depth.
Status put_query_scalar(const ModelFile& model, uint64_t largest_depth, nlohmann::json& config);

}  // namespace venturi
