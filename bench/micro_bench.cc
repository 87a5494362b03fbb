// Pieces of the way of a change, without servers (Google Benchmark; its options hold), with how
// often each asks for memory.
//   build/release/micro_bench [--benchmark_filter=REGEX] [--benchmark_format=json] ...
//   build/release/micro_bench --repeat SUBJECT TIMES    for bench/count_instructions
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include "bench/allocations.h"
#include "bench/subject.h"

namespace bitacora::bench {
namespace {

std::vector<Subject> all_subjects() {
  auto all = wal_subjects();
  for (const auto& more : {transport_subjects(), apply_subjects()})
    all.insert(all.end(), more.begin(), more.end());
  return all;
}

void measure(benchmark::State& state, const Subject& subject) {
  const auto repetition = subject.prepare();
  repetition();  // what is reserved once does not count
  const auto before = allocations();
  for (auto _ : state) repetition();
  const auto after = allocations();
  const auto repetitions = static_cast<double>(state.iterations());
  const auto items = repetitions * static_cast<double>(subject.items);
  state.SetItemsProcessed(static_cast<std::int64_t>(items));
  if (subject.bytes > 0)
    state.SetBytesProcessed(
        static_cast<std::int64_t>(repetitions * static_cast<double>(subject.bytes)));
  state.counters["allocations/item"] = static_cast<double>(after.count - before.count) / items;
  state.counters["allocated_bytes/item"] = static_cast<double>(after.bytes - before.bytes) / items;
}

void add(const Subject& subject) {
  auto* added = benchmark::RegisterBenchmark(
      subject.name.c_str(), [subject](benchmark::State& state) { measure(state, subject); });
  if (subject.repetitions_max > 0) added->Iterations(subject.repetitions_max);
}

// Prints how many items one repetition has.
int repeat(const std::string& name, int times) {
  for (const auto& subject : all_subjects()) {
    if (subject.name != name) continue;
    const auto repetition = subject.prepare();
    for (int i = 0; i < times; ++i) repetition();
    std::cout << subject.items << "\n";
    return 0;
  }
  std::cerr << "micro_bench: no subject " << name << "\n";
  return 1;
}

}  // namespace
}  // namespace bitacora::bench

int main(int argc, char** argv) {
  const std::span arguments(argv, static_cast<std::size_t>(argc));
  if (arguments.size() == 4 && std::string(arguments[1]) == "--repeat")
    return bitacora::bench::repeat(arguments[2], std::atoi(arguments[3]));
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  for (const auto& subject : bitacora::bench::all_subjects()) bitacora::bench::add(subject);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
