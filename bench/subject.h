// What the micro-benchmarks repeat: a piece of the way of a change, on changes made up here.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace bitacora::bench {

struct Subject {
  std::string name;     // what/of which changes
  std::size_t items;    // changes, or what the name says, in one repetition
  std::size_t bytes;    // gone through meanwhile
  int repetitions_max;  // 0: as often as one likes
  // Prepares; what it answers is one repetition, all of which are alike.
  std::function<std::function<void()>()> prepare;
};

std::vector<Subject> wal_subjects();
std::vector<Subject> transport_subjects();
std::vector<Subject> apply_subjects();

}  // namespace bitacora::bench
