// The frame of the pre-norm decoders (llama and its relatives): embeddings, layers of attention and
// feed-forward behind RMS norms, a last norm, the output projection. An architecture's file fills
// in what is its own; the forward pass is here.
#pragma once

#include <optional>
#include <vector>

#include "models/blocks.h"

namespace venturi {

struct DecoderLayer {
  Norm attention_norm, ffn_norm;
  std::optional<Norm> attention_post_norm, ffn_post_norm;  // of what is added to the stream
  AttentionBlock attention;
  std::optional<FeedForward> dense;     // this …
  std::optional<MixtureBlock> mixture;  // … or this
};

class Decoder : public Model {
 public:
  // What differs between architectures that are made by create().
  struct Traits {
    bool interleaved = false;  // rotary pairs are neighbours, not halves
    AttentionBlock::Needs needs = {};
    Activation activation = Activation::kSilu;
    bool post_norms = false;  // post_attention_norm and post_ffw_norm
    // n_experts 0: every feed-forward is dense.
    RouterParams router = {};
    int64_t expert_ff = 0, shared_ff = 0;
  };
  Act forward(Context& context, const Step& step) const override;
  void set_context(int64_t tokens) override { rope_ = rope_scheme_.at(tokens); }

 protected:
  // Declares every weight; windows (set_window) and layer-dependent ropes are the caller's to set after it.
  Status declare(const Hyper& hyper, WeightCatalog& catalog, const TransformerHyper& h,
                 const Traits& traits);
  // A layer's tokens see the last `window` only, and its slot keeps no more.
  void set_window(size_t layer, int64_t window) {
    layers_[layer].attention.params.window = info_.slots[layer].window = window;
  }

  RopeScheme rope_scheme_;
  Rope rope_;  // of rope_scheme_, for the context at hand
  float embedding_scale_ = 1, final_soft_cap_ = 0;
  std::vector<DecoderLayer> layers_;

 private:
  Weight *embedding_ = nullptr, *head_ = nullptr;
  Norm norm_;
};

}  // namespace venturi
