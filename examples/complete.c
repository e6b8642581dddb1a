/* Completes a prompt within a memory budget: complete MODEL PROMPT [TOKENS] [MEMORY_MB] [ADAPTER] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <venturi/venturi.h>

static int32_t print_text(void* user, int32_t token, const char* text, size_t text_bytes) {
  (void)user;
  (void)token;
  fwrite(text, 1, text_bytes, stdout);
  fflush(stdout);
  return 1; /* go on */
}

static int fail(const venturi_error* error) {
  fprintf(stderr, "%s\n", error->message);
  return (int)error->code;
}

static int complete(venturi_model* model, const char* prompt, int64_t max_tokens,
                    const char* adapter) {
  venturi_error error;
  size_t n_tokens = 0;
  /* Once for the number of tokens, once for the tokens. */
  if (venturi_tokenize(model, prompt, strlen(prompt), VENTURI_ADD_SPECIAL, NULL, 0, &n_tokens,
                       &error))
    return fail(&error);
  int32_t* tokens = malloc((n_tokens + 1) * sizeof *tokens);
  venturi_sequence* sequence = NULL;
  venturi_generate_options options;
  venturi_generate_options_init(&options);
  options.max_tokens = max_tokens;
  options.temperature = 0;
  venturi_generated report;
  venturi_code code = VENTURI_OK;
  if (!code)
    code = venturi_tokenize(model, prompt, strlen(prompt), VENTURI_ADD_SPECIAL, tokens, n_tokens,
                            &n_tokens, &error);
  if (!code) code = venturi_sequence_new(model, &sequence, &error);
  if (!code) code = venturi_sequence_use_adapter(sequence, adapter, &error);
  if (!code)
    code =
        venturi_generate(sequence, tokens, n_tokens, &options, print_text, NULL, &report, &error);
  if (!code) printf("\n");
  venturi_sequence_free(sequence);
  free(tokens);
  return code ? fail(&error) : 0;
}

int main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: complete MODEL PROMPT [TOKENS] [MEMORY_MB] [ADAPTER]\n");
    return 2;
  }
  venturi_open_options options;
  venturi_open_options_init(&options);
  if (argc > 4) options.memory_bytes = strtoull(argv[4], NULL, 10) * 1000000;
  const venturi_adapter adapter = {"it", argc > 5 ? argv[5] : NULL, 1};
  options.adapters = &adapter;
  options.n_adapters = argc > 5;
  venturi_error error;
  venturi_model* model = NULL;
  if (venturi_open(argv[1], &options, &model, &error)) return fail(&error);
  const int code = complete(model, argv[2], argc > 3 ? atoll(argv[3]) : 64,
                            argc > 5 ? "it" : NULL);
  venturi_close(model);
  return code;
}
