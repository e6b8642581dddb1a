// Attention with its cache: unrotated queries, keys and values in, mixed values out.
#pragma once

#include <span>

#include "ops/context.h"
#include "ops/rope.h"
#include "ops/step.h"

namespace venturi {

struct AttendParams {
  int slot = 0;  // paged slot of the sequence state
  int n_heads = 0, n_kv_heads = 0, k_dim = 0, v_dim = 0;
  float scale = 1;       // of query . key
  float soft_cap = 0;    // 0: none
  int64_t window = 0;    // a token sees the last `window` tokens, itself included; 0: all
  const Rope* rope = nullptr;   // null: positions are in the inputs already
  const float* sinks = nullptr; // [n_heads] logits of a key with value 0 that every query sees, or null
  bool full = false;            // an encoder: every token of a span sees every other, whatever the span's mask
  bool values_in_keys = false;  // the slot is paged_latent: v is not read, values are the keys' last v_dim elements
};

// q [rows, n_heads * k_dim], k [rows, n_kv_heads * k_dim], v [rows, n_kv_heads * v_dim]
//   -> [rows, n_heads * v_dim].
// Keys are stored rotated, in f16, before anything is attended: a token is seen by itself as it
// will be seen by later ones. q and k are overwritten.
Act attend(Context& context, const Step& step, const AttendParams& params, Act& q, Act& k, const Act& v);

// Queries of one KV head that a task works on at once; from the I/O bound of tiled attention
// (Saha and Ye, ICML 2024): traffic falls with the number of queries that share a pass over the
// keys until queries and outputs, 2 * 4 * head_dim bytes each, fill the L2 cache. See docs/performance.md.
int query_tile(int k_dim, int v_dim);

}  // namespace venturi
