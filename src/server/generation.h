// The answers to one API request: submitted together, sent as they come or when all are whole.
//
// What the answers look like is an AnswerFormat, one per API. A request is read on the HTTP server's thread or a
// worker's; from when it is submitted everything here runs on the HTTP server's. When the client goes, the requests are
// cancelled.
#pragma once

#include <memory>
#include <random>

#include "server/app.h"
#include "server/text_stream.h"
#include "server/timings.h"
#include "server/tool_use.h"

namespace venturi::server {

struct LoggedToken {
  TokenId id = 0;
  double logprob = 0;
  std::vector<std::pair<TokenId, double>> top;
};

struct ToolCall {
  std::string id, name, arguments;  // arguments: JSON as the model wrote it
  size_t text_before = 0;           // bytes of the answer's text
  bool whole = true;                // not cut off within the arguments
  // {} where they are whole and are none.
  std::optional<Json> object() const;
};

// In the order in which they came, what an answer consists of: `call` is null in a piece of text, which is not empty
// where there is another piece.
struct AnswerPiece {
  std::string text;
  const ToolCall* call = nullptr;
};

struct Answer {
  std::string text;
  std::vector<ToolCall> calls;
  std::string finish;  // "stop", "length", "tool_calls"
  std::string stop;    // the stop text that ended it, if one did
  int64_t n_tokens = 0;
  bool prompt_told = false;

  std::vector<AnswerPiece> pieces() const;
};

struct Usage {
  int64_t prompt = 0, completion = 0, cached = 0;
  Timings timings = {};       // when the last answer is whole
  bool tells_timings = false;
  Json json() const;
  // To what ends a stream, if it was asked for.
  void add_timings(Json& to) const {
    if (tells_timings && timings.total > 0) to["venturi"]["timings"] = timings.json();
  }
  void add_timings(std::string& object) const {
    if (tells_timings && timings.total > 0) object = with_member(std::move(object), "venturi", dump(Json{{"timings", timings.json()}}));
  }
};

// How answers and errors look in one API; texts go over the wire as they are.
class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;
  // Of a stream: "" sends nothing. first() comes once for every answer, before anything else.
  virtual std::string stream_type() const { return "text/event-stream; charset=utf-8"; }
  virtual std::string first(int index, const Usage& usage) = 0;
  // Before the first token, where they were asked for: the prompt's tokens from the second on.
  virtual std::string prompt(int index, const std::vector<LoggedToken>& tokens) { return ""; }
  virtual std::string delta(int index, const std::string& text, const std::vector<LoggedToken>& tokens) = 0;
  // Of the `n`th call of an answer, as it comes.
  virtual std::string call_begins(int index, int n, const ToolCall& call) { return ""; }
  virtual std::string call_arguments(int index, int n, const std::string& more) { return ""; }
  virtual std::string call_ends(int index, int n, const ToolCall& call) { return ""; }
  virtual const char* call_prefix() const { return "call_"; }  // of ids
  // Adds the timings, which are there with the answer that ends last.
  virtual std::string last(int index, const Answer& answer, const Usage& usage) = 0;
  virtual std::string end(const Usage& usage) = 0;
  virtual std::string stream_error(const ApiError& error) = 0;
  // Of a whole answer, as it comes: what prompt() and delta() get, kept as the text that whole() needs. How many bytes it is.
  virtual size_t log_prompt(int index, const std::vector<LoggedToken>& tokens) { return 0; }
  virtual size_t log(int index, const std::vector<LoggedToken>& tokens) { return 0; }
  // All answers at once: an object. Nothing is kept after it.
  virtual std::string whole(const std::vector<Answer>& answers, const Usage& usage) = 0;
  virtual size_t held_bytes() const { return 0; }  // of the request
  virtual std::string error(const ApiError& error) const { return dump(error); }
};

struct GenerationRequest {
  std::vector<std::vector<TokenId>> prompts;
  int n = 1;               // answers to each
  int64_t max_tokens = 0;  // 0: what fits
  bool no_answer = false;  // only what there is to say of the prompt
  SamplingParams sampling;
  bool ignore_end = false;
  int top_logprobs = -1;
  bool prompt_logprobs = false;  // likewise, of the prompt
  std::vector<std::string> stops;
  std::shared_ptr<const grammar::Automaton> grammar;
  ToolUse tools;
  bool stream = false;
  bool timings = false;  // to be told
  int priority = 0;  // among the requests of its account
};

// The fields that the APIs of OpenAI's kind share: sampling, stop, stream, response_format, n.
// include_usage is stream_options' own.
GenerationRequest read_generation(Fields& fields, const ServedModel& model, bool* include_usage = nullptr, ToolUse tools = {});
// Fields by which llama.cpp's, vLLM's or OpenAI's server gives other answers, and this one does not.
void refuse_known_elsewhere(Fields& fields);
// Null, and an error of `name`, where the grammar cannot be compiled.
std::shared_ptr<const grammar::Automaton> compile_grammar(Fields& fields, const std::string& name,
                                                          const Result<grammar::Grammar>& parsed);
uint64_t random_seed();
// Whether the response shall say where its time went: "venturi": {"timings": true}.
bool wants_timings(Fields& fields);
// A conversation's tokens, through the model's template; `fields` takes what is wrong with it. Where its length alone says
// that the context cannot hold it, that is; to be counted it may have any.
std::vector<TokenId> chat_prompt(Fields& fields, const ServedModel& model, const Json* messages, const Json* template_arguments,
                                 const ToolUse& tools = {}, bool any_length = false);
void log_unknown(const Fields& fields);
// What neither of two readers of a body asked for.
void log_unknown(const Fields& fields, const Fields& others);
// A text, a list of token ids, or a list of at most `most` of either.
std::vector<std::vector<TokenId>> read_texts(Fields& fields, const ServedModel& model, const char* name, size_t most);

// Submits to the call's model and answers, or refuses.
void generate(Call call, GenerationRequest request, std::unique_ptr<AnswerFormat> format);

// "chatcmpl-" and 24 random characters.
std::string random_id(std::string_view prefix);

}  // namespace venturi::server
