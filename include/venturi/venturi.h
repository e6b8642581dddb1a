/* Venturi as a library, in C: open a model inside a memory budget, turn text into tokens and back,
 * compute logits, generate.
 *
 * Ownership. What a function gives through a `**out` is the caller's, to be given back by the
 * function named after it (venturi_close, venturi_sequence_free). A model lives until it and the
 * last of its sequences are given back, in any order. Strings and arrays passed in are only read,
 * during the call; logits given out belong to the model and are there until the next call that
 * computes on it.
 *
 * Threads. A model and its sequences are used by one thread at a time, whichever it is; different
 * models do not know of each other. venturi_tokenize, venturi_detokenize and venturi_get_info may
 * be called at any time from any thread. A model computes on threads of its own.
 *
 * Errors are values: a function that can fail returns a code and, where `error` is not NULL, fills
 * it with a message of a line or two. Nothing is printed, nothing exits, no C++ exception comes
 * out. After an error a sequence is where it was, unless its function says otherwise.
 *
 * Text is bytes with a length, UTF-8 where it means something; it needs no 0 at the end.
 *
 * Stability. Functions and fields keep their meaning within a major version. Structs grow at the
 * end: fill them by their _init function, which also records the size that the caller was compiled
 * with. */
#ifndef VENTURI_VENTURI_H_
#define VENTURI_VENTURI_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VENTURI_API __attribute__((visibility("default")))

typedef enum venturi_code {
  VENTURI_OK = 0,
  VENTURI_INVALID_ARGUMENT = 1, /* of this call */
  VENTURI_NOT_FOUND = 2,        /* a file, a part of it */
  VENTURI_CORRUPT = 3,          /* bytes that contradict their format */
  VENTURI_UNSUPPORTED = 4,      /* well-formed, but nothing here can run it */
  VENTURI_OUT_OF_BUDGET = 5,    /* does not fit; the message says what would */
  VENTURI_IO = 6,               /* the operating system refused */
  VENTURI_CANCELLED = 7
} venturi_code;

typedef struct venturi_error {
  venturi_code code;
  char message[1000]; /* ends in 0; cut where it is longer */
} venturi_error;

typedef struct venturi_model venturi_model;
typedef struct venturi_sequence venturi_sequence;

VENTURI_API const char* venturi_version(void); /* "0.1.0" */

/* --- Models
 * ------------------------------------------------------------------------------------------- */

/* A LoRA adapter (docs/adapters.md) beside the model's weights: a peft directory or a GGUF file. */
typedef struct venturi_adapter {
  const char* name; /* by which sequences take it; NULL: its path */
  const char* path;
  float scale; /* over the file's own: 1 is as it was trained, 0 changes nothing */
} venturi_adapter;

typedef struct venturi_open_options {
  size_t size;           /* of this struct, by venturi_open_options_init */
  uint64_t memory_bytes; /* for weights, state, activations and buffers together; 0: no limit */
  int64_t
      context;   /* tokens of a sequence at most; 0: what the model was trained for, at most 4096 */
  int64_t batch; /* tokens computed at once at most; 0: 512, or less where the budget is small */
  int64_t outputs;   /* tokens whose logits one venturi_eval may ask for; 1 */
  int32_t sequences; /* that may be alive at a time; 1 */
  int32_t threads;   /* 0: what affinity and cgroup quota allow */
  const venturi_adapter* adapters; /* that sequences may take; they count towards memory_bytes */
  size_t n_adapters;               /* 0 */
} venturi_open_options;

VENTURI_API void venturi_open_options_init(venturi_open_options* options);

/* A GGUF file or a Hugging Face directory. `options` may be NULL. Refused before anything is loaded
 * where it does not fit the budget. */
VENTURI_API venturi_code venturi_open(const char* path, const venturi_open_options* options,
                                      venturi_model** out, venturi_error* error);
VENTURI_API void venturi_close(venturi_model* model); /* NULL is allowed */

typedef struct venturi_info {
  size_t size; /* of this struct, by the caller */
  int64_t vocab_size;
  int64_t context;      /* tokens a sequence may hold */
  int64_t output_width; /* values a token gives: vocab_size, or of an embedding */
  uint64_t memory_held; /* bytes of the budget in use now */
  int32_t bos, eos;     /* -1: none */
  int32_t embeds;       /* 1: gives embeddings, not logits, and cannot generate */
} venturi_info;

VENTURI_API void venturi_get_info(const venturi_model* model, venturi_info* info);

/* --- Text
 * --------------------------------------------------------------------------------------------- */

enum {
  VENTURI_ADD_SPECIAL = 1,  /* tokenize: put BOS and EOS where the model asks for them */
  VENTURI_PARSE_SPECIAL = 2 /* tokenize: control tokens written in the text become their ids, so
                               only for text that is not a user's. detokenize: show them */
};

/* Both write at most `capacity` values and always give the number that there are: a first call with
 * capacity 0 asks for it. */
VENTURI_API venturi_code venturi_tokenize(const venturi_model* model, const char* text,
                                          size_t text_bytes, int32_t flags, int32_t* tokens,
                                          size_t capacity, size_t* n_tokens, venturi_error* error);
VENTURI_API venturi_code venturi_detokenize(const venturi_model* model, const int32_t* tokens,
                                            size_t n_tokens, int32_t flags, char* text,
                                            size_t capacity, size_t* text_bytes,
                                            venturi_error* error);
VENTURI_API int32_t venturi_is_end(const venturi_model* model,
                                   int32_t token); /* 1: it ends generation */

/* --- Sequences
 * ---------------------------------------------------------------------------------------- */

/* Tokens with what the model remembers of them. */
VENTURI_API venturi_code venturi_sequence_new(venturi_model* model, venturi_sequence** out,
                                              venturi_error* error);
VENTURI_API void venturi_sequence_free(venturi_sequence* sequence); /* NULL is allowed */
/* From now on the model's adapter of this name changes what the sequence computes; NULL: none does,
 * as in a new one. VENTURI_NOT_FOUND where the model was opened without it,
 * VENTURI_INVALID_ARGUMENT for a sequence that has tokens. */
VENTURI_API venturi_code venturi_sequence_use_adapter(venturi_sequence* sequence, const char* name,
                                                      venturi_error* error);
VENTURI_API int64_t venturi_sequence_length(const venturi_sequence* sequence);
/* Forgets the tokens from `length` on. VENTURI_UNSUPPORTED where a recurrent state cannot go back;
 * 0 always can. */
VENTURI_API venturi_code venturi_sequence_truncate(venturi_sequence* sequence, int64_t length,
                                                   venturi_error* error);

/* Adds tokens to a sequence and gives the logits after each of the last `n_outputs`, as
 * [n_outputs, output_width]; n_outputs is at most n_tokens, the model's `outputs` and its batch.
 * Logits depend on the tokens before alone: not on how they were cut into calls, on threads or on
 * other sequences. After an error the sequence may hold some of the tokens; venturi_sequence_length
 * says how many, and they are right. */
VENTURI_API venturi_code venturi_eval(venturi_sequence* sequence, const int32_t* tokens,
                                      size_t n_tokens, size_t n_outputs, const float** logits,
                                      venturi_error* error);

/* --- Generation
 * --------------------------------------------------------------------------------------- */

typedef struct venturi_logit_bias {
  int32_t token;
  float bias; /* -INFINITY bans it */
} venturi_logit_bias;

typedef struct venturi_generate_options {
  size_t size;        /* of this struct, by venturi_generate_options_init */
  int64_t max_tokens; /* 128 */
  int32_t ignore_end; /* 1: go on after a token that ends the text; 0 */
  /* Sampling, in this order: bias, penalties, top-k, typical, top-p, min-p, temperature. A token is
   * a function of these, the seed, its position and the logits, and of nothing else. */
  float temperature;                                             /* 0: the likeliest token; 0.8 */
  int32_t top_k;                                                 /* 0: off; 40 */
  float top_p;                                                   /* 1: off; 0.95 */
  float min_p;                                                   /* 0: off; 0.05 */
  float typical_p;                                               /* 1: off; 1 */
  float repetition_penalty, presence_penalty, frequency_penalty; /* 1, 0, 0: off */
  int32_t penalty_last_n;                                        /* -1: the whole sequence; 64 */
  int32_t mirostat;                                              /* 0: off, 1, 2; 0 */
  float mirostat_tau, mirostat_eta;                              /* 5, 0.1 */
  uint64_t seed;                                                 /* 0 */
  const venturi_logit_bias* logit_bias;
  size_t n_logit_bias;
} venturi_generate_options;

VENTURI_API void venturi_generate_options_init(venturi_generate_options* options);

/* Told of each token as it is drawn: the text that it completes is whole UTF-8 characters, maybe
 * none, and there during the call. Returns 0 to stop. */
typedef int32_t (*venturi_on_token)(void* user, int32_t token, const char* text, size_t text_bytes);

typedef struct venturi_generated {
  int64_t prompt_tokens, generated_tokens;
  int32_t ended;          /* 1: by a token that ends the text, not by a limit or the callback */
  double prefill_seconds; /* to the logits after the prompt */
  double decode_seconds;  /* of the tokens after the first */
} venturi_generated;

/* Adds `tokens` to the sequence and draws up to max_tokens, fewer where the context is full. The
 * tokens drawn are part of the sequence afterwards, but for the last one. `options`, `on_token`,
 * `generated` may be NULL. */
VENTURI_API venturi_code venturi_generate(venturi_sequence* sequence, const int32_t* tokens,
                                          size_t n_tokens, const venturi_generate_options* options,
                                          venturi_on_token on_token, void* user,
                                          venturi_generated* generated, venturi_error* error);

#ifdef __cplusplus
}
#endif

#endif /* VENTURI_VENTURI_H_ */
