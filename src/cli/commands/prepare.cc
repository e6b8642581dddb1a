// venturi prepare: writes the file beside a model from which the neurons of its feed-forwards are read.
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "engine/sparse.h"
#include "formats/overwrite.h"

namespace venturi {

namespace {

struct Options {
  std::string model, output;
  int threads = 0;
};

Status run(const Options& o) {
  const auto file = TRY(open_model(o.model));
  WeightCatalog catalog(*file);
  const auto model = TRY(create_model(*file, catalog));
  const std::vector<NeuronLayer> layers = neuron_layers(*model);
  if (layers.empty())
    return error(Code::kUnsupported, "{}: none of its feed-forwards has a ReLU, so every token needs all of their neurons; "
                 "there is nothing to prepare", file->path);
  const std::string path = o.output.empty() ? sidecar_path(o.model) : o.output;
  TRY(refuse_overwrite(*file, path));
  ThreadPool pool(o.threads > 0 ? o.threads : default_thread_count());
  uint64_t bytes = 0;
  {
    ProgressLine line("preparing");
    bytes = TRY(write_sidecar(path, *file, layers, pool, [&](const PrepareProgress& p) {
      line.update(static_cast<double>(p.done) / static_cast<double>(std::max<uint64_t>(1, p.total)));
    }));
  }
  print_out(fmt::format("{}\n{} feed-forwards, {}\n", path, layers.size(), format_bytes(bytes)));
  return {};
}

}  // namespace

extern const Command command_prepare;
const Command command_prepare{"prepare", "Write the neurons of a ReLU model beside it, to be read one by one",
                              [](CLI::App& app) -> std::function<Status()> {
  auto o = std::make_shared<Options>();
  app.add_option("-m,--model", o->model, "GGUF file, or Hugging Face directory with safetensors")->required();
  app.add_option("-o,--output", o->output, "file to write (default: the model's path with .venturi after it, where it is found by itself)");
  app.add_option("-t,--threads", o->threads, "threads")->check(CLI::Range(1, 1024));
  return [o] { return run(*o); };
}};

}  // namespace venturi
