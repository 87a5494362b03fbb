#include "engine/config_file.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>

#include <fmt/format.h>
#include <toml++/toml.h>

#include "engine/config_section.h"

namespace bitacora::engine {
namespace {

std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

Error bad_file(const std::string& path, const std::string& what, const std::string& hint = {}) {
  return {ErrorCode::kConfiguration, fmt::format("--config {}: {}", path, what), hint};
}

// Scalars as the command line would spell them; nothing for tables, dates and nested arrays.
std::vector<std::string> values_of(const toml::node& node) {
  if (auto scalar = spelled(node)) return {*std::move(scalar)};
  std::vector<std::string> values;
  if (const auto* list = node.as_array()) {
    for (const auto& item : *list) {
      const auto* text = item.as_string();
      if (text == nullptr) return {};
      values.push_back(text->get());
    }
  }
  return values;
}

Result<void> apply_entry(CLI::App& command, const std::string& path, const std::string& key,
                         const toml::node& node, const ReadSections& sections) {
  if (const auto section = sections.find(key); section != sections.end()) {
    const auto* table = node.as_table();
    if (table == nullptr)
      return bad_file(path, fmt::format("line {}: {} wants a table", node.source().begin.line, key),
                      fmt::format("write [{}]", key));
    return section->second(ConfigSection(path, key, *table));
  }
  std::vector<std::string> known;
  for (const auto* option : command.get_options())
    known.insert(known.end(), option->get_lnames().begin(), option->get_lnames().end());
  for (const auto& section : sections) known.push_back(section.first);
  std::erase(known, "help");
  std::erase(known, "config");
  for (const char* once : {"forget", "begin-anew"}) std::erase(known, once);  // not at every start
  std::string name = key;
  std::replace(name.begin(), name.end(), '_', '-');
  if (std::find(known.begin(), known.end(), name) == known.end()) {
    const auto meant = nearest(name, known);
    return bad_file(path, fmt::format("line {}: unknown key {}", node.source().begin.line, key),
                    meant.empty() ? "bitacora " + command.get_name() + " --help lists the names"
                                  : "did you mean " + meant + "?");
  }
  CLI::Option* option = command.get_option("--" + name);
  if (option->count() > 0) return {};  // the command line wins
  const auto values = values_of(node);
  if (values.empty())
    return bad_file(path,
                    fmt::format("line {}: {} wants a string, a list of strings, or true/false",
                                node.source().begin.line, key),
                    fmt::format("for example: {} = \"...\"", key));
  try {
    option->add_result(values);
    option->run_callback();
  } catch (const CLI::Error& e) {
    return bad_file(path, fmt::format("line {}: {}: {}", node.source().begin.line, key, e.what()),
                    fmt::format("for example: {} = {}", key,
                                option->get_expected_max() == 0 ? "true" : "\"...\""));
  }
  return {};
}

}  // namespace

std::string nearest(const std::string& word, const std::vector<std::string>& known) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const auto& candidate : known) {
    const auto distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

Result<void> apply_config_file(CLI::App& command, const std::string& path,
                               const ReadSections& sections) try {
  if (::access(path.c_str(), R_OK) != 0)
    return bad_file(path, std::strerror(errno), "check the path and that this user may read it");
  const toml::table table = toml::parse_file(path);
  for (const auto& [key, node] : table)
    RETURN_IF_ERROR(apply_entry(command, path, std::string(key.str()), node, sections));
  return {};
} catch (const toml::parse_error& e) {
  return bad_file(path, fmt::format("line {}: {}", e.source().begin.line, e.description()),
                  "write key = \"value\" lines");
}

}  // namespace bitacora::engine
