// The rules that keep the source tree tidy: who includes whom, sizes, names, headers, README paths.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace bitacora::tree {

// Path from the root, '/' between folders → content. Directories are not listed.
using SourceTree = std::map<std::string, std::string>;

// Everything below `root` but build directories and what the version control keeps for itself.
SourceTree read_tree(const std::filesystem::path& root);

struct Violation {
  std::string file;
  std::size_t line = 1;
  std::string rule;

  std::string text() const;  // file:line: rule
};

// What each rule says is written where it is checked, in tree_rules.cc.
std::vector<Violation> violations(const SourceTree& tree);

}  // namespace bitacora::tree
