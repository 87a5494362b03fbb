// What the programs of this folder have in common: some arguments, and how they end.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace bitacora::bench {

void add_server(CLI::App& app, std::string& server);
void add_workloads(CLI::App& app, std::vector<std::string>& workloads);
void add_scale(CLI::App& app, double& scale);
void add_rounds(CLI::App& app, int& rounds);

// Parses, then does `work`; the exit code of main(). 1, with a line on standard error, for what
// `work` throws, and for arguments that are wrong, with how the program is used. An interrupt ends
// `work` at its next await().
int run_command(CLI::App& app, int argc, char** argv, const std::function<void()>& work);

}  // namespace bitacora::bench
