#include "cli/flags.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/planning.h"

namespace venturi {

namespace {

constexpr uint64_t kMaxText = 1u << 30;  // bytes of a text for eval, tokenize and their like

// "PATH", "PATH=SCALE", and of a named one "NAME=" before it.
Result<AdapterSource> adapter_source(std::string text, bool named) {
  AdapterSource source;
  if (named) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0)
      return error(Code::kInvalidArgument, "--lora {}: expected NAME=PATH, the name that requests give", text);
    source.name = text.substr(0, equals);
    text = text.substr(equals + 1);
  }
  if (const size_t equals = text.rfind('='); equals != std::string::npos) {
    char* end = nullptr;
    const float scale = std::strtof(text.c_str() + equals + 1, &end);
    if (end != text.c_str() + equals + 1 && *end == 0) {
      source.scale = scale;
      text.resize(equals);
    }
  }
  if (text.empty()) return error(Code::kInvalidArgument, "--lora: expected the path of an adapter");
  source.path = std::move(text);
  if (!named) source.name = source.path;
  return source;
}

}  // namespace

const CLI::Validator kTokenCount(
    [](std::string& text) -> std::string {
      if (text.size() > 1 && text.size() < 10 && (text.back() == 'k' || text.back() == 'K') &&
          text.find_first_not_of("0123456789") == text.size() - 1)
        text = std::to_string(std::stoll(text) * 1024);
      return {};
    },
    "INT[k]", "token count");

const CLI::Validator kByteAmount(
    [](std::string& text) -> std::string {
      const auto bytes = parse_bytes(text);
      return bytes ? "" : bytes.error().message;
    },
    "");

namespace {

// What is pinned at most may be nothing.
const CLI::Validator kByteAmountOrNone([](std::string& text) -> std::string { return text == "0" ? "" : kByteAmount(text); }, "");

}  // namespace

void ModelFlags::add_model(CLI::App& app) {
  app.add_option("-m,--model", model, "GGUF file, or Hugging Face directory with safetensors (default: the embedded model)");
}

void ModelFlags::add_rest(CLI::App& app) {
  app.add_option("--memory", memory, "budget for weights, state, activations and buffers, e.g. 2G or 1500M (default: none)")->check(kByteAmount);
  app.add_option("--pin", pin, "keep at most so much of the weights in memory and stream the rest from disk; 0: only what cannot stream (default: what the budget allows)")
      ->check(kByteAmountOrNone);
  app.add_option("--window", window, "memory for what is streamed ahead of use (default: a twentieth of the budget)")->check(kByteAmount);
  app.add_option("--experts", experts, "of a mixture that does not fit: which expert leaves the cache, or \"stream\": no cache (default: forecast)")
      ->check(CLI::IsMember([] {
        std::vector<std::string> names{"stream"};
        for (const Eviction* policy : all_evictions()) names.emplace_back(policy->name);
        return names;
      }()));
  app.add_option("--expert-slots", expert_slots, "hold at most so many experts of all layers together (default: what the budget allows)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  app.add_flag("--no-guesses", no_guesses, "read an expert only when a token has chosen it");
  app.add_option("--sidecar", sidecar, "what venturi prepare wrote for the model (default: beside it, if there)");
  app.add_flag("--no-sparse", no_sparse, "read whole feed-forwards though a sidecar of their neurons is there (slower; the same results)");
  app.add_option("-c,--ctx,--context", context, "context: tokens a sequence may hold; 8k is 8192 (default: the model's, at most 4096)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->transform(kTokenCount);
  app.add_option("-b,--batch", batch, "tokens of a prompt computed at once (default: 512, less where weights are streamed and the budget is small)")
      ->check(CLI::Range(1, 65536));
  app.add_option("-t,--threads", threads, "threads (default: what affinity and cgroup quota allow)")->check(CLI::Range(1, 1024));
  app.add_flag("--no-repack", no_repack, "keep weights in the file's layout (slower; the same results)");
}

void ModelFlags::add_state(CLI::App& app) {
  app.add_option("--state-memory", state_memory, "memory for keys and values; what is beyond it goes to the disk (default: what the budget leaves)")
      ->check(kByteAmount);
  spill_option = app.add_option("--spill", spill, "keep keys and values that have no place in memory in a temporary file in this folder, or of this name (default: $TMPDIR, else the cache folder)")
                     ->expected(0, 1);
}

void ModelFlags::add_adapter(CLI::App& app) {
  app.add_option_function<std::string>(
         "--lora", [this](const std::string& text) { adapters = {text}; },
         "change the model by this adapter: a peft directory or a GGUF file, =SCALE behind it to change it less or more")
      ->type_name("PATH[=SCALE]");
}

void ModelFlags::add_adapters(CLI::App& app, const char* what) {
  app.add_option("--lora", adapters, what)->type_name(named_adapters ? "NAME=PATH[=SCALE]" : "PATH[=SCALE]")->allow_extra_args(false);
}

void ModelFlags::add_plan(CLI::App& app) {
  auto* option = app.add_option("--plan", plan, "run the first plan of this file (venturi plan --json)");
  for (const char* other : {"--memory", "--pin", "--window", "--ctx", "--batch", "--threads", "--no-repack", "--state-memory", "--spill",
                            "--experts", "--expert-slots", "--no-guesses", "--sidecar", "--no-sparse"})
    if (auto* there = app.get_option_no_throw(other)) option->excludes(there);
  app.add_option("--min-tps", min_tps, "tokens a second that each stream is to have: refused before loading where less is predicted")
      ->check(CLI::NonNegativeNumber);
}

Result<EngineOptions> ModelFlags::engine_options(int64_t outputs, int sequences) const {
  EngineOptions options;
  if (!sidecar.empty()) TRY(File::open(sidecar));  // read only where the model does not fit; a wrong name is told at once
  if (!memory.empty()) options.memory = TRY(parse_bytes(memory));
  if (!pin.empty()) options.wishes.pinned_bytes = pin == "0" ? 0 : TRY(parse_bytes(pin));
  if (!window.empty()) options.wishes.window_bytes = TRY(parse_bytes(window));
  if (!state_memory.empty()) options.state_memory = TRY(parse_bytes(state_memory));
  if (spill_option && spill_option->count() > 0) options.spill = spill == "true" ? "" : spill;
  if (!experts.empty()) options.wishes.expert_policy = experts == "stream" ? "" : experts;
  options.wishes.expert_slots = expert_slots;
  options.wishes.expert_guesses = !no_guesses;
  options.context = context;
  options.batch = batch;
  options.outputs = outputs;
  options.sequences = sequences;
  options.threads = threads;
  options.repack = !no_repack;
  options.sparse = !no_sparse;
  options.sidecar = sidecar;
  options.shared_state = shared_state;
  options.prefix_cache = !no_prefix_cache;
  for (const std::string& text : adapters) options.adapters.push_back(TRY(adapter_source(text, named_adapters)));
  options.ledger = ledger;
  options.pool = pool;
  return options;
}

Result<std::string> model_path(const std::string& given) {
  std::string path = given.empty() ? default_model() : given;
  if (path.empty())
    return error(Code::kInvalidArgument, "no model: give one with -m FILE; the embedded one is not beside this program");
  return path;
}

Result<std::string> ModelFlags::path() const { return model_path(model); }

Result<std::optional<PlanFile>> ModelFlags::load_plan() const {
  if (plan.empty()) return std::optional<PlanFile>();
  PlanFile file = TRY(read_plan_file(plan));
  TRY(check_plan_for(file, plan, *TRY(open_model(TRY(path())))));
  return std::optional(std::move(file));
}

void ModelFlags::tell_unused(const WeightCatalog& catalog, const ResidencyPlan& residency, const NeuronPlan& neurons) const {
  if (!sidecar.empty() && !neurons.used())
    spdlog::warn("--sidecar {}: not used: {}", sidecar,
                 memory.empty() ? "without --memory all of the model is in memory" : !adapters.empty() ? "adapters do not go with it"
                 : no_sparse ? "--no-sparse" : "what it holds fits memory, or its scales do not");
  if ((!experts.empty() || expert_slots > 0) && residency.expert_cache_bytes == 0 && experts != "stream")
    spdlog::warn("{}: not used: {}", experts.empty() ? fmt::format("--expert-slots {}", expert_slots) : "--experts " + experts,
                 catalog.experts().empty() ? "the model has no experts"
                 : !residency.streams()    ? "all of the model is in memory"
                 : !pin.empty()            ? "with --pin a share of every expert is pinned"
                                           : "there is not room for the experts of two tokens");
  if (window.empty()) return;
  const auto wanted = parse_bytes(window);  // it was checked
  const bool used = residency.window_bytes + residency.routed_bytes > 0;
  if (!used) spdlog::warn("--window {}: not used: {}", window, residency.expert_cache_bytes > 0 ? "experts have a cache" : residency.streams() ? "rows of tables need none" : "nothing is streamed");
  // Blocks and pieces are whole.
  if (used && wanted && residency.window_bytes < *wanted)
    spdlog::warn("--window {}: {} taken, all that is streamed", window, format_bytes(residency.window_bytes));
  if (used && wanted && residency.window_bytes > *wanted)
    spdlog::warn("--window {}: {} taken, the least", window, format_bytes(residency.window_bytes));
}

Result<std::unique_ptr<Engine>> ModelFlags::open(int64_t outputs, int sequences) const {
  EngineOptions options = TRY(engine_options(outputs, sequences));
  const std::string path = TRY(this->path());
  if (threads > default_thread_count())
    spdlog::warn("-t {}: the machine gives this program {}; more threads than that wait for each other", threads,
                 default_thread_count());
  auto file = TRY(load_plan());
  if (min_tps > 0) TRY(check_speed(path, options, file ? &*file : nullptr, min_tps));
  if (file) {
    const Plan& first = file->plans[0];
    auto sources = std::move(options.adapters);
    options = options_of(first);
    // Shared pages take the same room; where state or weights are on the disk the plan is run as it was made.
    options.shared_state = shared_state && !first.residency.streams() && !options.spill;
    options.prefix_cache = !no_prefix_cache;
    options.adapters = std::move(sources);
    options.outputs = outputs;
    options.ledger = ledger;
    options.pool = pool;
    if (sequences > options.sequences)
      return error(Code::kInvalidArgument, "{}: the plan is for {} streams, {} are wanted; plan with --streams {}", plan,
                   options.sequences, sequences, sequences);
  }
  bool shown = false;
  if (isatty(2)) {
    const double begin = now_seconds();
    double last = begin;
    options.progress = [&, begin, last](uint64_t done, uint64_t total) mutable {
      const double now = now_seconds();
      if (now - begin < 1 || now - last < 0.1) return;
      last = now;
      shown = true;
      std::fprintf(stderr, "\rloading %3.0f %% of %s", 100.0 * done / total, format_bytes(total).c_str());
    };
  }
  auto engine = Engine::open(path, options);
  if (shown) std::fprintf(stderr, "\r\033[K");
  if (engine && (*engine)->options().context > (*engine)->info().trained_context && (*engine)->info().trained_context > 0)
    spdlog::warn("a context of {}: this model was trained for {}, and what is beyond gets worse", (*engine)->options().context,
                 (*engine)->info().trained_context);
  if (engine && plan.empty()) tell_unused((*engine)->catalog(), (*engine)->residency(), (*engine)->neuron_plan());
  if (engine && (*engine)->state_pool().file())
    std::fprintf(stderr, "state beyond %s goes to a file at %s, up to %s\n",
                 format_bytes((*engine)->footprint().state).c_str(), (*engine)->state_pool().file()->path().c_str(),
                 format_bytes((*engine)->footprint().state_file).c_str());
  return engine;
}

void TextFlags::add(CLI::App& app, const char* what) {
  auto* p = prompt_option = app.add_option("-p,--prompt", prompt, what);
  auto* f = app.add_option("-f,--file", file, "read it from a file ('-': standard input, which is read without -f, too, where it is a pipe or a file)");
  p->excludes(f);
}

Status TextFlags::check() const {
  if (file.empty() || file == "-" || ::access(file.c_str(), R_OK) == 0) return {};
  return error(errno == ENOENT ? Code::kNotFound : Code::kIo, "cannot open {}: {}", file, std::strerror(errno));
}

std::string TextFlags::source() const {
  if (!file.empty() || !prompt.empty() || (prompt_option && prompt_option->count() > 0)) return file;
  // A script's own pipe, which nobody writes to or closes, is not waited for.
  constexpr int kPatienceMs = 5000;
  struct stat in;
  if (::fstat(0, &in) != 0 || !(S_ISFIFO(in.st_mode) || S_ISREG(in.st_mode))) return "";
  struct pollfd input = {.fd = 0, .events = POLLIN, .revents = 0};
  return ::poll(&input, 1, kPatienceMs) > 0 ? "-" : "";
}

Result<std::string> TextFlags::text() const {
  if (const std::string from = source(); !from.empty()) return read_text_file(from, kMaxText);
  return prompt;
}

std::string default_model() {
  std::error_code ignored;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  for (auto folder = program.parent_path(); !folder.empty() && folder != folder.root_path(); folder = folder.parent_path()) {
    // In the source's tree, or installed.
    for (const char* place : {"models", "share/venturi/models"}) {
      const auto candidate = folder / place / "tiny-llama-q8_0.gguf";
      if (std::filesystem::exists(candidate, ignored)) return candidate.string();
    }
  }
  return "";
}

std::string format_rate(double per_second) {
  return per_second >= 100 ? fmt::format("{:.0f} tok/s", per_second) : fmt::format("{:.3g} tok/s", per_second);
}

}  // namespace venturi
