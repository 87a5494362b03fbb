// How benchmarks wait: to a deadline, and not after somebody interrupted them.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace bitacora::bench {

// From here on SIGINT, SIGTERM and SIGHUP make the next await() throw, so that the servers, which
// live in sessions of their own, are ended by their destructors.
void catch_interrupts();

// Asks every `interval`; what `reached` throws is thrown, for example that a process has ended.
// Throws std::runtime_error, naming `what`, at the timeout and after an interrupt.
void await(const std::string& what, const std::function<bool()>& reached,
           std::chrono::milliseconds timeout,
           std::chrono::milliseconds interval = std::chrono::milliseconds(5));

// The same, at most once per `interval`: looking costs the machine, too.
std::function<void()> seldom(std::function<void()> check, std::chrono::milliseconds interval);

// Runs a program to its end, calling `meanwhile` all the time; its output. Throws what it says when
// its exit code is not 0.
std::string run_to_end(std::vector<std::string> argv,
                       const std::vector<std::string>& environment = {},
                       const std::function<void()>& meanwhile = {});

}  // namespace bitacora::bench
