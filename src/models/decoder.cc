#include "models/decoder.h"

namespace venturi {

Status Decoder::declare(const Hyper& hyper, WeightCatalog& catalog, const TransformerHyper& h,
                        const Traits& traits) {
  rope_scheme_ = TRY(read_rope(hyper, catalog, h.head_dim, traits.interleaved, h.context));
  set_context(h.context);
  const std::string name = TRY(hyper.metadata().string_or("general.name", ""));
  info_ = {.architecture = hyper.architecture(),
           .name = name,
           .n_layers = h.n_layers,
           .d_model = h.d_model,
           .vocab_size = h.vocab_size,
           .trained_context = h.context};
  const auto norm = [&](const std::string& name) {
    return Norm::declare(catalog, name, h.d_model, NormKind::kRms, h.norm_epsilon);
  };
  embedding_ = TRY(catalog.matrix("token_embd.weight", h.d_model, h.vocab_size));
  for (int64_t i = 0; i < h.n_layers; ++i) {
    DecoderLayer layer;
    layer.attention_norm = TRY(norm(layer_name(i, "attn_norm")));
    layer.attention = TRY(AttentionBlock::declare(catalog, i, h, traits.needs));
    layer.attention.params.rope = &rope_;
    layer.ffn_norm = TRY(norm(layer_name(i, "ffn_norm")));
    if (traits.post_norms) {
      layer.attention_post_norm = TRY(norm(layer_name(i, "post_attention_norm")));
      layer.ffn_post_norm = TRY(norm(layer_name(i, "post_ffw_norm")));
    }
    if (traits.router.n_experts > 0) {
      layer.mixture = TRY(MixtureBlock::declare(catalog, i, h.d_model, traits.expert_ff,
                                                traits.shared_ff, traits.router,
                                                traits.activation));
    } else {
      layer.dense =
          TRY(FeedForward::declare(catalog, i, h.d_model, h.d_ff, true, traits.activation));
    }
    layers_.push_back(std::move(layer));
    info_.slots.push_back(SlotSpec::paged(static_cast<int>(h.n_kv_heads),
                                          static_cast<int>(h.head_dim),
                                          static_cast<int>(h.v_head_dim)));
  }
  norm_ = TRY(norm("output_norm"));
  head_ = TRY(declare_head(catalog, h.d_model, h.vocab_size));
  return {};
}

Act Decoder::forward(Context& context, const Step& step) const {
  Act x = embed(context, *embedding_, step.tokens, embedding_scale_);
  for (const DecoderLayer& layer : layers_) {
    const bool early = layer.mixture && layer.mixture->params.early;
    ChosenExperts chosen;
    if (early) chosen = layer.mixture->choose(context, x);
    Act y = layer.attention.run(context, step, layer.attention_norm.run(context, x));
    if (layer.attention_post_norm) y = layer.attention_post_norm->run(context, y);
    add_in_place(context, x, y);
    y.reset();
    const Norm* post = layer.ffn_post_norm ? &*layer.ffn_post_norm : nullptr;
    if (layer.dense) {
      add_feed_forward(context, layer.ffn_norm, *layer.dense, post, x);
      continue;
    }
    Act normed = layer.ffn_norm.run(context, x);
    if (!early) chosen = layer.mixture->choose(context, normed);
    y = layer.mixture->run(context, std::move(normed), chosen);
    if (post) y = post->run(context, y);
    add_in_place(context, x, y);
  }
  Act y = output(context, step, norm_, *head_, std::move(x));
  if (final_soft_cap_ > 0 && !step.hidden) soft_cap_in_place(context, y, final_soft_cap_);
  return y;
}

}  // namespace venturi
