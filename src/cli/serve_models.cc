#include "cli/serve_models.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <filesystem>

#include "cli/planning.h"
#include "engine/plan.h"

namespace venturi {

namespace {

using server::ModelSpec;
using server::ServedModel;

constexpr int kMostStreams = 16;
// Prompts whose logprobs are wanted go on by so many tokens a step.
constexpr int64_t kOutputs = 32;
// Texts that a decoder embeds at once, beside the streams.
constexpr int kEmbedSequences = 4;

// Sequences beside the streams'.
int spare_sequences(const ServeModelFlags& f) { return (f.keeps_sessions ? 1 : 0) + (f.pooling ? kEmbedSequences : 0); }

// As many streams as asked for, or, where none is said, as fit the budget, at most 16.
Result<std::unique_ptr<Engine>> open(const ServeModelFlags& f, const ModelFlags& model) {
  if (f.streams > 0) {
    const int64_t outputs = f.speculation.outputs(f.streams);
    auto engine = model.open(std::max(outputs, kOutputs), f.streams + spare_sequences(f));
    return engine || outputs >= kOutputs || engine.error().code != Code::kOutOfBudget ? std::move(engine) : model.open(outputs, f.streams + spare_sequences(f));
  }
  for (int streams = kMostStreams;; streams /= 2) {
    auto engine = model.open(std::max(f.speculation.outputs(streams), streams == kMostStreams ? kOutputs : streams), streams + spare_sequences(f));
    if (engine || streams == 1 || engine.error().code != Code::kOutOfBudget) return engine;
  }
}

Result<std::unique_ptr<ServedModel>> start(const ServeModelFlags& f, std::string name, std::unique_ptr<Engine> engine,
                                           std::unique_ptr<Engine> draft, ServiceObserver& observer, std::shared_ptr<Turn> turn) {
  ServiceOptions options;
  options.scheduler.max_queued = f.max_queued;
  options.scheduler.max_queued_seconds = f.max_wait_seconds;
  options.observer = &observer;
  options.speculator = TRY(f.speculation.speculator(*engine, std::move(draft)));
  const bool embeds = engine->info().embeds;
  const auto pooling = embeds || f.pooling ? f.pooling : TRY(pooling_of(*engine));
  if (pooling && !embeds && !turn) turn = std::make_shared<Turn>();  // for the two of this engine
  int64_t running = engine->options().sequences - spare_sequences(f);
  Embedder::Options embedding{.max_waiting = f.max_queued, .turn = turn, .pooling = pooling};
  if (!embeds && pooling) {
    embedding.sequences = kEmbedSequences;
    if (!f.pooling) {  // only its file said so: they are streams'
      embedding.sequences = running > 2 * kEmbedSequences ? kEmbedSequences : 1;
      running -= embedding.sequences;
    }
  }
  options.turn = turn;
  options.scheduler.max_running = std::min(options.scheduler.max_running, running);
  auto model = TRY(ServedModel::create(std::move(engine), std::move(name)));
  if (embeds || pooling) model->embedder = TRY(Embedder::start(*model->engine, embedding));
  if (!embeds && running > 0) model->service = TRY(Service::start(*model->engine, options));
  return model;
}

// ---- one model: it has the budget to itself ----

// The streams that a plan was made for, without those that are spared.
Result<int> planned_streams(const ServeModelFlags& flags, const PlanFile& plan) {
  const int planned = plan.plans[0].options.sequences, streams = planned - spare_sequences(flags);
  if (streams < 1 || flags.streams > streams)
    return error(Code::kInvalidArgument, "{}: the plan is for {} streams, {} are wanted; plan with --streams {}", flags.model.plan, planned,
                 std::max(flags.streams, 1) + spare_sequences(flags), std::max(flags.streams, 1) + spare_sequences(flags));
  return streams;
}

ModelSpec only_model(ServeModelFlags flags, const std::string& name, const std::string& path, const std::shared_ptr<Ledger>& ledger,
                     const std::shared_ptr<PlanRun>& plan) {
  ModelSpec spec{.name = name};
  spec.open = [=](ServiceObserver& observer) -> Result<std::unique_ptr<ServedModel>> {
    ModelFlags model = flags.model;
    model.model = path;
    model.ledger = ledger;
    auto draft = TRY(flags.speculation.open_draft(model, flags.streams > 0 ? flags.streams : kMostStreams));
    auto engine = TRY(open(flags, model));
    if (plan) plan->meter = std::make_shared<PlanMeter>(observer);
    return start(flags, name, std::move(engine), std::move(draft), plan ? *plan->meter : observer, {});
  };
  return spec;
}

// ---- one of several ----

// How the model runs when it is alone in the budget, and with which flags.
struct Alone {
  ModelFlags model;
  int streams = 1, spare_sequences = 0;
  int64_t outputs = 1;
  int sequences() const { return streams + spare_sequences; }
  Plan plan;
};

Result<Plan> fit(Planner& planner, const Alone& a, uint64_t memory, bool advises = false) {
  EngineOptions options = TRY(a.model.engine_options(a.outputs, a.sequences()));
  options.memory = std::min(options.memory, memory);
  options.ledger.reset();
  return advises ? planner.fit(options) : planner.try_fit(options);
}

// State that nobody bounds would take all that weights leave, and no other model would have room beside it: a
// quarter of the budget, or what one context takes.
Status bound_state(Planner& planner, Alone& a, uint64_t limit) {
  if (!a.model.state_memory.empty() || limit == Ledger::kUnlimited) return {};
  Alone one = a;
  one.streams = 1;
  const auto least = fit(planner, one, limit);
  if (!least) return {};  // whatever is refused then is refused by the flags that were given
  const std::string before = std::exchange(a.model.state_memory, std::to_string(std::max(least->footprint.state, limit / 4)));
  const auto bounded = fit(planner, a, limit);
  if (!bounded || bounded->state.spills()) a.model.state_memory = before;
  return {};
}

Result<Alone> fit_alone(Planner& planner, const ServeModelFlags& flags, const std::string& path, uint64_t limit) {
  Alone a;
  a.model = flags.model;
  a.spare_sequences = spare_sequences(flags);
  a.model.model = path;
  for (a.streams = flags.streams > 0 ? flags.streams : kMostStreams;; a.streams /= 2) {
    a.outputs = std::max<int64_t>(flags.speculation.outputs(a.streams), a.streams == kMostStreams ? kOutputs : a.streams);
    TRY(bound_state(planner, a, limit));
    auto plan = fit(planner, a, limit);
    if (!plan && plan.error().code == Code::kOutOfBudget && flags.streams == 0 && a.streams > 1) continue;
    if (!plan) plan = fit(planner, a, limit, true);
    a.plan = TRY(std::move(plan));
    a.model.context = a.plan.options.context;
    if (flags.model.min_tps > 0) {
      EngineOptions options = TRY(a.model.engine_options(a.outputs, a.sequences()));
      options.memory = std::min(options.memory, limit);
      TRY(check_speed(path, options, nullptr, flags.model.min_tps));
    }
    return a;
  }
}

// No worse than alone: idle models make room before weights are streamed or a context is cut. State may have fewer
// pages.
Status check_room(const Alone& a, uint64_t available, uint64_t limit) {
  auto planner = TRY(Planner::open(a.model.model));
  const auto now = fit(*planner, a, available);
  if (now && now->footprint.weights >= a.plan.footprint.weights) return {};
  if (!now && now.error().code != Code::kOutOfBudget) return now.error();
  Alone one = a;
  one.streams = 1;
  one.outputs = 1;
  const auto least = fit(*planner, one, limit);
  return error(Code::kOutOfBudget, "{} needs {}{}, of the budget of {} {} are free", a.model.model,
               format_bytes(least ? least->footprint.peak() : a.plan.footprint.peak()), least ? " for one request at a time" : "",
               format_bytes(limit), format_bytes(available));
}

Result<ModelSpec> one_of_several(const ServeModelFlags& flags, const std::string& name, const std::string& path,
                                 const std::shared_ptr<Ledger>& ledger, const std::shared_ptr<Turn>& turn) {
  auto planner = TRY(Planner::open(path));
  Alone alone = TRY(fit_alone(*planner, flags, path, ledger->limit()));
  ModelSpec spec{.name = name,
                 .about = {.context = alone.plan.options.context,
                           .tensor_bytes = tensor_bytes(planner->file()),
                           .architecture = planner->model().info().architecture}};
  alone.model.ledger = ledger;
  spec.open = [=](ServiceObserver& observer) -> Result<std::unique_ptr<ServedModel>> {
    if (ledger->limit() != Ledger::kUnlimited) TRY(check_room(alone, ledger->available(), ledger->limit()));
    auto engine = TRY(alone.model.open(alone.outputs, alone.sequences()));
    return start(flags, name, std::move(engine), {}, observer, turn);
  };
  return spec;
}

struct NamedFile {
  std::string name, path;
};

bool is_name(const std::string& text) {
  const auto allowed = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || std::strchr("._-/", c); };
  return !text.empty() && std::all_of(text.begin(), text.end(), allowed);
}

// "FILE", or "name=FILE" where there is no file of that whole name.
Result<NamedFile> named_file(const std::string& given, const std::string& alias) {
  std::error_code ignored;
  const size_t sign = given.find('=');
  if (sign == std::string::npos || std::filesystem::exists(given, ignored)) {
    const std::string path = TRY(model_path(given));
    return NamedFile{alias.empty() ? std::filesystem::path(path).stem().string() : alias, path};
  }
  NamedFile file{given.substr(0, sign), given.substr(sign + 1)};
  if (!is_name(file.name))
    return error(Code::kInvalidArgument, "-m {}: a model's name is of letters, digits and . _ - /", given);
  if (file.path.empty()) return error(Code::kInvalidArgument, "-m {}: there is no file behind the name", given);
  return file;
}

// What has no name is called as its file: "PATH" or "PATH=SCALE".
std::string named_adapter(const std::string& given) {
  const size_t sign = given.find('=');
  if (sign != std::string::npos) {
    char* end = nullptr;
    std::strtof(given.c_str() + sign + 1, &end);
    if (end == given.c_str() + sign + 1 || *end != 0) return given;
  }
  const std::filesystem::path path(given.substr(0, sign));
  return (path.has_filename() ? path : path.parent_path()).stem().string() + "=" + given;
}

// "NAME=PATH" is an adapter of the first model, "MODEL:NAME=PATH" of another: those of each, without its name.
Result<std::vector<std::vector<std::string>>> adapters_of(const std::vector<std::string>& given, const std::vector<NamedFile>& files) {
  std::vector<std::vector<std::string>> of(files.size());
  for (const std::string& raw : given) {
    const std::string text = named_adapter(raw);
    const size_t sign = std::min(text.find('='), text.size()), colon = text.rfind(':', sign);
    const bool divided = colon != std::string::npos && colon < sign;
    const std::string model = divided ? text.substr(0, colon) : files[0].name, rest = divided ? text.substr(colon + 1) : text;
    if (sign == text.size() || !is_name(rest.substr(0, rest.find('='))))
      return error(Code::kInvalidArgument, "--lora {}: expected NAME=PATH, a name of letters, digits and . _ - /", text);
    const auto at = std::find_if(files.begin(), files.end(), [&](const NamedFile& file) { return file.name == model; });
    if (at == files.end()) return error(Code::kInvalidArgument, "--lora {}: no model {} is served", text, model);
    of[static_cast<size_t>(at - files.begin())].push_back(rest);
  }
  return of;
}

// The spec of a model with its adapters, by which names requests ask for them.
ModelSpec with_adapters(ModelSpec spec, const std::vector<std::string>& adapters) {
  for (const std::string& text : adapters) spec.adapters.push_back(text.substr(0, text.find('=')));
  return spec;
}

}  // namespace

Result<ServeModels> serve_models(const ServeModelFlags& flags) {
  ServeModels made;
  const std::vector<std::string> given = flags.files.empty() ? std::vector<std::string>{""} : flags.files;
  if (given.size() > 1 && !flags.alias.empty())
    return error(Code::kInvalidArgument, "--alias is for one model; name several by -m name=FILE");
  if (given.size() > 1 && !flags.speculation.draft_model.empty())
    return error(Code::kInvalidArgument, "--draft-model goes with one model; {} are given", given.size());
  std::vector<NamedFile> files;
  for (const std::string& one : given) {
    files.push_back(TRY(named_file(one, flags.alias)));
    for (size_t i = 0; i + 1 < files.size(); ++i)
      if (files[i].name == files.back().name)
        return error(Code::kInvalidArgument, "two models are named {}; name them by -m name=FILE", files[i].name);
  }
  if (files.size() > 1 && !flags.model.plan.empty())
    return error(Code::kInvalidArgument, "--plan goes with one model; {} are given", files.size());
  const std::vector<std::vector<std::string>> adapters = TRY(adapters_of(flags.model.adapters, files));
  uint64_t memory = Ledger::kUnlimited;
  ServeModelFlags one = flags;
  one.model.model = files[0].path;
  one.model.adapters = adapters[0];
  if (auto plan = TRY(one.model.load_plan())) {
    one.streams = TRY(planned_streams(flags, *plan));
    memory = plan->plans[0].options.memory;
    made.plan = std::make_shared<PlanRun>(PlanRun{.file = std::move(*plan)});
  }
  if (!flags.model.memory.empty()) memory = TRY(parse_bytes(flags.model.memory));
  made.ledger = Ledger::create(memory);
  if (files.size() == 1) {
    made.specs.push_back(with_adapters(only_model(one, files[0].name, files[0].path, made.ledger, made.plan), adapters[0]));
    return made;
  }
  const auto turn = std::make_shared<Turn>();
  for (size_t i = 0; i < files.size(); ++i) {
    one.model.adapters = adapters[i];
    made.specs.push_back(with_adapters(TRY(one_of_several(one, files[i].name, files[i].path, made.ledger, turn)), adapters[i]));
  }
  return made;
}

}  // namespace venturi
