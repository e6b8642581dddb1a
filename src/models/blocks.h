// Blocks that architectures share. Each declares its weights from the catalog by GGUF's names and
// runs on a context.
#pragma once

#include <optional>
#include <string>

#include "models/architecture.h"
#include "models/hyper.h"
#include "ops/attend.h"
#include "ops/linear.h"
#include "ops/moe.h"
#include "ops/neurons.h"
#include "ops/rows.h"

namespace venturi {

std::string layer_name(int64_t layer, const char* suffix);  // "blk.<layer>.<suffix>"

// RMS norm, or LayerNorm, with a bias where the file has one.
struct Norm {
  NormKind kind = NormKind::kRms;
  VectorWeight *weight = nullptr, *bias = nullptr;
  float epsilon = 0;

  // "<name>.weight" and, of a LayerNorm, "<name>.bias".
  static Result<Norm> declare(WeightCatalog& catalog, const std::string& name, int64_t n,
                              NormKind kind, float epsilon);
  Act run(Context& context, const Act& x) const;
};

struct AttentionBlock {
  Weight* qkv = nullptr;  // fused, rows of q, k, v one after another; else the three
  Weight *q = nullptr, *k = nullptr, *v = nullptr, *o = nullptr;
  VectorWeight *qkv_bias = nullptr, *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr;
  VectorWeight* o_bias = nullptr;
  VectorWeight *q_norm = nullptr, *k_norm = nullptr;  // RMS norm of each head before rotation
  float norm_epsilon = 0;
  AttendParams params;

  // What an architecture cannot do without, beyond the matrices. What is not named here is taken
  // where the file has it.
  struct Needs {
    bool qkv_bias = false, head_norms = false;
  };
  // attn_q, attn_k, attn_v (or attn_qkv), attn_output; slot and scale set, rope and window not.
  static Result<AttentionBlock> declare(WeightCatalog& catalog, int64_t layer,
                                        const TransformerHyper& h, const Needs& needs);
  // x is given up, so that it is gone before the keys are attended; who needs it gives a view.
  Act run(Context& context, const Step& step, Act x) const;
};

// By the key "<architecture>.hidden_activation", in the names that Hugging Face has for it; `otherwise`
// where the file does not say.
Result<Activation> read_activation(const Hyper& hyper, Activation otherwise);

// act(x gate) * (x up), down; or without a gate, act(x up), down.
struct FeedForward {
  Weight *gate = nullptr, *up = nullptr, *down = nullptr;
  VectorWeight *gate_bias = nullptr, *up_bias = nullptr, *down_bias = nullptr;
  Activation activation = Activation::kSilu;

  // ffn_gate, ffn_up, ffn_down with `suffix` ("_shexp") after each; biases where the file has them.
  static Result<FeedForward> declare(WeightCatalog& catalog, int64_t layer, int64_t d_model,
                                     int64_t d_ff, bool gated, Activation activation,
                                     const char* suffix = "");
  Act run(Context& context, Act x) const;
};

// x += post(ffn(norm(x))), post if there is one, by tiles of Context::row_tile() rows.
void add_feed_forward(Context& context, const Norm& norm, const FeedForward& ffn, const Norm* post, Act& x);

// Routed experts, and one that every row passes through, where there is one.
struct MixtureBlock {
  Weight* router = nullptr;
  RouterParams params;
  ExpertWeights experts{};
  std::optional<FeedForward> shared;
  Weight* shared_gate = nullptr;  // [1, d_model]: sigmoid of it scales the shared expert

  // params.n_experts, top_k and gate are the caller's; shared_ff 0: no shared expert.
  static Result<MixtureBlock> declare(WeightCatalog& catalog, int64_t layer, int64_t d_model,
                                      int64_t expert_ff, int64_t shared_ff,
                                      const RouterParams& params,
                                      Activation activation = Activation::kSilu);
  // What the rows of x choose, asked for; of an early router, before the attention.
  ChosenExperts choose(Context& context, const Act& x) const;
  Act run(Context& context, Act x, const ChosenExperts& chosen) const;
  // By what x itself chooses: not of an early router.
  Act run(Context& context, Act x) const;
};

// The output projection, which may be the embedding table.
Result<Weight*> declare_head(WeightCatalog& catalog, int64_t d_model, int64_t vocab_size);

// What a decoder's forward pass ends with: of the rows asked for the logits, or, where the step wants them, the hidden
// states after the last norm. x is given up.
Act output(Context& context, const Step& step, const Norm& norm, const Weight& head, Act x);

// Positions of the step's rows in their sequences, for learned position tables.
std::vector<int32_t> row_positions(const Step& step);

}  // namespace venturi
