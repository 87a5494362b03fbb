#include "bench/command.h"

#include <exception>
#include <iostream>

#include "bench/patience.h"

namespace bitacora::bench {

void add_server(CLI::App& app, std::string& server) {
  app.add_option("SERVER", server, "BIN_DIR, or a major version; default: the newest here");
}

void add_workloads(CLI::App& app, std::vector<std::string>& workloads) {
  app.add_option("--workloads", workloads, "NAME,...; default: all")
      ->delimiter(',')
      ->allow_extra_args(false);
}

void add_scale(CLI::App& app, double& scale) {
  app.add_option("--scale", scale, "multiplies numbers of rows and transactions")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

void add_rounds(CLI::App& app, int& rounds) {
  app.add_option("--rounds", rounds)->check(CLI::Range(1, 100))->capture_default_str();
}

int run_command(CLI::App& app, int argc, char** argv, const std::function<void()>& work) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help
    std::cerr << app.get_name() << ": " << e.what() << "\n"
              << CLI::Formatter().make_usage(&app, app.get_name());
    return 1;
  }
  try {
    catch_interrupts();
    work();
  } catch (const std::exception& e) {
    std::cerr << app.get_name() << ": " << e.what() << "\n";
    return 1;
  }
  return 0;
}

}  // namespace bitacora::bench
