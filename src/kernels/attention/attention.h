// Attention over paged keys and values, the score matrix never formed.
//
//   out[q] = sum over keys j in [lo[q], hi[q]) of softmax_j(s[q, j]) v[j],  s[q, j] = query[q] . key[j]
//
// Online softmax over blocks of kPageTokens keys (Dao, "FlashAttention-2", 2023, algorithm 1), in
// base 2. Keys are cut at absolute multiples of kSplitTokens; a split is computed from nothing and
// splits are merged in ascending order, so the same bits come out whether a query is one of a
// prompt's tile or decodes alone, and whoever computes which split.
// Reduction tree: scores as in matmul.h (ascending over the head's elements); within a split, the
// sum of exponentials in 16 lanes, key j in lane j mod 16, folded once at its end as in rows.h;
// values ascending over keys.
//
// Layout of a page, head by head, a head's values right behind its keys: keys
// [kPageTokens / 16][k_dim][16 keys] f16, so that a lane is a key; values
// [ceil(v_dim / 16)][kPageTokens][16] f16, so that a lane is an element. Both products are then the
// register tile of the f32 matmul. Threads: pure.
#pragma once

#include <cstdint>

#include "simd/isa.h"

namespace venturi {

constexpr int kPageTokens = 64;
constexpr int kSplitTokens = 512;

// f16 elements of a page for one KV head.
constexpr int64_t key_page_elems(int k_dim) { return int64_t{kPageTokens} * k_dim; }
constexpr int64_t value_page_elems(int v_dim) { return int64_t{kPageTokens} * ((v_dim + 15) / 16 * 16); }
constexpr int value_stride(int v_dim) { return (v_dim + 15) / 16 * 16; }

// The part of one KV head's queries in one split. Arrays are the caller's.
struct AttendSplit {
  const uint16_t* const* keys;    // [n_blocks] this head's part of each page
  // [n_blocks]; null: a value is the last v_dim elements of its key, and the values of each block
  // are transposed into value_scratch [value_page_elems(v_dim)] first: the same bits as if stored.
  const uint16_t* const* values;
  int64_t first_key;              // absolute index of the first key, a multiple of kPageTokens
  int n_blocks;                   // at most kSplitTokens / kPageTokens
  int n_queries;
  int k_dim, v_dim;
  // [n_queries * k_dim] f32 as pack_queries leaves them: rotated and multiplied by the score scale, and
  // by log2(e) unless soft_cap.
  const float* queries;
  const int64_t* lo;  // [n_queries] visible keys [lo, hi), absolute
  const int64_t* hi;
  float soft_cap;  // s -> soft_cap tanh(s / soft_cap); 0: none
  float* top;      // [n_queries] out: maximum of the scores in base 2, kNoScore if nothing was visible
  float* sum;      // [n_queries] out: sum of 2^(s - top); 0 if nothing was visible
  float* out;      // [n_queries][value_stride] out: sum of 2^(s - top) v
  float* lanes;    // [n_queries][16] scratch
  uint16_t* value_scratch = nullptr;
  // The key page that the thread will read after this call, or null: asked for near the end.
  const uint16_t* next_keys = nullptr;
  // A split may be done in several calls over consecutive pages, to the same bits: all but the first have
  // `begun`, all but the last `unfinished`, and top, out and lanes are left alone between them.
  bool begun = false, unfinished = false;
};

constexpr float kNoScore = -1e30f;

struct AttentionKernels {
  // Queries [n][k_dim], each times `scale`, transposed tile by tile of queries: out [n * k_dim].
  void (*pack_queries)(const float* const* rows, int n, int k_dim, float scale, float* out);
  void (*split)(const AttendSplit&);
  // Adds split `b` to the running `a`: tops, sums and n output elements.
  void (*merge)(float* top_a, float* sum_a, float* out_a, float top_b, float sum_b, const float* out_b, int n);
  // One token's key [k_dim] and value [v_dim], f32, into slot `token` of a page; what f16 cannot
  // hold is stored as its largest number.
  void (*store_key)(const float* key, int k_dim, int token, uint16_t* page);
  void (*store_value)(const float* value, int v_dim, int token, uint16_t* page);
};

const AttentionKernels& attention_kernels(Isa isa);
inline const AttentionKernels& attention_kernels() { return attention_kernels(chosen_isa()); }

}  // namespace venturi
