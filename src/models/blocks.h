// Blocks that architectures share. Each declares its weights from the catalog by GGUF's names and
// runs on a context.
#pragma once

#include <string>

#include "models/architecture.h"
#include "models/hyper.h"
#include "ops/attend.h"
#include "ops/linear.h"
#include "ops/rows.h"

namespace venturi {

std::string layer_name(int64_t layer, const char* suffix);  // "blk.<layer>.<suffix>"

struct AttentionBlock {
  Weight *q = nullptr, *k = nullptr, *v = nullptr, *o = nullptr;
  VectorWeight *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr, *o_bias = nullptr;
  VectorWeight *q_norm = nullptr, *k_norm = nullptr;  // RMS norm of each head before rotation
  float norm_epsilon = 0;
  AttendParams params;

  // attn_q, attn_k, attn_v, attn_output; biases and head norms where the file has them.
  static Result<AttentionBlock> declare(WeightCatalog& catalog, int64_t layer, const TransformerHyper& h);
  Act run(Context& context, const Step& step, const Act& x) const;
};

struct GatedFeedForward {
  Weight *gate = nullptr, *up = nullptr, *down = nullptr;
  Activation activation = Activation::kSilu;

  static Result<GatedFeedForward> declare(WeightCatalog& catalog, int64_t layer, int64_t d_model, int64_t d_ff);
  Act run(Context& context, const Act& x) const;
};

// The output projection, which may be the embedding table.
Result<Weight*> declare_head(WeightCatalog& catalog, int64_t d_model, int64_t vocab_size);

}  // namespace venturi
