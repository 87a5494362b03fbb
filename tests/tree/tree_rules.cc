#include "tests/tree/tree_rules.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>

namespace bitacora::tree {
namespace {

namespace fs = std::filesystem;
using Names = std::set<std::string, std::less<>>;

constexpr std::size_t kLinesMax = 500;
constexpr const char* kTestsPage = "tests/FAILURES.md";

// Folder → the folders it may depend on.
const std::map<std::string, Names, std::less<>> kMayDependOn{
    {"base", {"base"}},
    {"proto", {"base", "proto"}},
    {"wal", {"base", "proto", "wal"}},
    {"transport", {"base", "proto", "transport"}},
    {"apply", {"base", "proto", "apply"}},
    {"engine", {"base", "proto", "wal", "transport", "apply", "engine"}},
    {"bench", {"base", "proto", "wal", "transport", "apply", "engine", "bench", "tests"}},
    {"tests", {"base", "proto", "wal", "transport", "apply", "engine", "bench", "tests"}},
};

// Tests and benchmarks may use every library and need not name what they reach through others.
const Names kUnrestricted{"tests", "bench"};

struct Library {
  std::string_view header;   // a name, or a folder ending in '/'
  std::string_view package;  // as our CMakeLists.txt name it
  Names folders;             // the only ones that may use it
};

const std::vector<Library> kLibraries{
    {"libpq-fe.h", "PkgConfig::LIBPQ", {"wal", "apply"}},
    {"libpq/", "PkgConfig::LIBPQ", {"wal", "apply"}},
    {"pqxx/", "PkgConfig::LIBPQXX", {"wal", "apply"}},
    {"lmdb.h", "PkgConfig::LMDB", {"apply"}},
    {"zstd.h", "PkgConfig::ZSTD", {"transport"}},
    {"zstd_errors.h", "PkgConfig::ZSTD", {"transport"}},
    {"grpcpp/", "PkgConfig::GRPC", {"transport"}},
    {"grpc/", "PkgConfig::GRPC", {"transport"}},
};

// The code generated from the .proto files needs gRPC; what we write there does not.
bool generated_code_needs(std::string_view folder, std::string_view package) {
  return folder == "proto" && package == "PkgConfig::GRPC";
}

std::string_view folder_of(std::string_view path) {
  const auto slash = path.find('/');
  return slash == std::string_view::npos ? std::string_view{} : path.substr(0, slash);
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

bool is_source(std::string_view path) { return path.ends_with(".cc") || path.ends_with(".h"); }

std::vector<std::string_view> split(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> words;
  for (;;) {
    const auto begin = text.find_first_not_of(separators);
    if (begin == std::string_view::npos) return words;
    text.remove_prefix(begin);
    const auto end = std::min(text.find_first_of(separators), text.size());
    words.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
}

// The path of an #include line with its first delimiter, for example `"base/lsn.h` or `<vector`.
std::optional<std::string_view> included(std::string_view line) {
  const auto words = split(line, " \t");
  std::string_view directive = words.empty() ? "" : words.front();
  if (directive != "#include" && !(words.size() > 1 && directive == "#" && words[1] == "include")) {
    return std::nullopt;
  }
  const auto begin = line.find_first_of("\"<");
  if (begin == std::string_view::npos) return std::nullopt;
  const auto end = line.find_first_of("\">", begin + 1);
  return line.substr(begin, end == std::string_view::npos ? end : end - begin);
}

bool is_header_of(const Library& library, std::string_view header) {
  return library.header.ends_with('/') ? header.starts_with(library.header)
                                       : header == library.header;
}

// What stands between backticks.
std::vector<std::string_view> quoted_in(std::string_view line) {
  std::vector<std::string_view> found;
  for (bool quoted = false; !line.empty(); quoted = !quoted) {
    const auto end = std::min(line.find('`'), line.size());
    if (quoted) found.push_back(line.substr(0, end));
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  return found;
}

// Suite.Case
bool looks_like_a_test(std::string_view text) {
  const auto is_name = [](std::string_view name) {
    return !name.empty() && std::isupper(static_cast<unsigned char>(name.front())) != 0 &&
           std::all_of(name.begin(), name.end(),
                       [](unsigned char c) { return std::isalnum(c) != 0; });
  };
  const auto dot = text.find('.');
  return dot != std::string_view::npos && is_name(text.substr(0, dot)) &&
         is_name(text.substr(dot + 1));
}

// What a folder includes, and what its CMakeLists.txt says: both must be the same set.
struct Dependencies {
  std::map<std::string, Violation, std::less<>> used;      // folder or package → first place
  std::map<std::string, Violation, std::less<>> declared;  // the same
};

class Inspection {
 public:
  explicit Inspection(const SourceTree& tree) : tree_(tree) {}

  std::vector<Violation> run() {
    find_libraries();
    for (const auto& [path, text] : tree_) {
      check_name(path);
      if (is_source(path)) check_source(path, lines_of(text));
      if (path.ends_with(".h")) check_header(path, lines_of(text));
      if (path.ends_with("CMakeLists.txt")) check_cmake(path, lines_of(text));
      check_unfinished(path, lines_of(text));
    }
    check_agreement();
    if (tree_.contains("README.md")) check_readme(lines_of(tree_.at("README.md")));
    if (tree_.contains(kTestsPage)) check_named_tests(lines_of(tree_.at(kTestsPage)));
    return std::move(found_);
  }

 private:
  void report(std::string_view path, std::size_t line, std::string rule) {
    found_.push_back({std::string(path), line, std::move(rule)});
  }

  // Our libraries and the folders that make them.
  void find_libraries() {
    for (const auto& [path, text] : tree_) {
      if (!path.ends_with("CMakeLists.txt")) continue;
      for (const auto line : lines_of(text)) {
        const auto words = split(line, " \t()");
        if (words.size() < 2) continue;
        if (words[0] == "bitacora_library") {
          folder_of_library_[fmt::format("bitacora_{}", words[1])] = folder_of(path);
        } else if (words[0] == "add_library" && words[1].starts_with("bitacora_")) {
          folder_of_library_[std::string(words[1])] = folder_of(path);
        }
      }
    }
  }

  // A name says what is inside; these say that nobody knew.
  void check_name(std::string_view path) {
    static const Names kEmptyWords{"helper", "helpers", "util", "utils", "common", "misc"};
    for (const auto word : split(path, "/_-.")) {
      if (kEmptyWords.contains(word)) {
        report(path, 1, fmt::format("a file is one noun of the field, not \"{}\"", word));
      }
    }
  }

  void check_source(std::string_view path, const std::vector<std::string_view>& lines) {
    if (lines.size() > kLinesMax) {
      report(path, lines.size(), fmt::format("a file has at most {} lines", kLinesMax));
    }
    for (std::size_t i = 0; i < lines.size(); ++i) {
      if (const auto target = included(lines[i])) check_include(path, i + 1, *target);
    }
  }

  void check_include(std::string_view path, std::size_t line, std::string_view delimited) {
    const auto header = delimited.substr(1);
    const auto target = folder_of(header);
    if (kMayDependOn.contains(target)) {
      check_direction(path, line, target);
      if (target != folder_of(path)) use(path, line, target);
    } else if (delimited.front() == '"') {
      report(path, line, "an include of our own is spelled from the root: \"folder/file.h\"");
    }
    for (const auto& library : kLibraries) {
      if (!is_header_of(library, header)) continue;
      check_library(path, line, library);
      use(path, line, library.package);
    }
  }

  void check_direction(std::string_view path, std::size_t line, std::string_view target) {
    const auto folder = kMayDependOn.find(folder_of(path));
    if (folder != kMayDependOn.end() && !folder->second.contains(target)) {
      report(path, line,
             fmt::format("{}/ may depend on {} only, not on {}/", folder->first,
                         fmt::join(folder->second, ", "), target));
    }
  }

  void check_library(std::string_view path, std::size_t line, const Library& library) {
    const auto folder = folder_of(path);
    if (kUnrestricted.contains(folder) || library.folders.contains(folder) ||
        generated_code_needs(folder, library.package)) {
      return;
    }
    report(path, line,
           fmt::format("{} is for {} only", library.package, fmt::join(library.folders, ", ")));
  }

  void use(std::string_view path, std::size_t line, std::string_view dependency) {
    dependencies_[std::string(folder_of(path))].used.try_emplace(
        std::string(dependency), Violation{std::string(path), line, ""});
  }

  void declare(std::string_view path, std::size_t line, std::string_view dependency) {
    dependencies_[std::string(folder_of(path))].declared.try_emplace(
        std::string(dependency), Violation{std::string(path), line, ""});
  }

  void check_header(std::string_view path, const std::vector<std::string_view>& lines) {
    if (lines.empty() || !lines.front().starts_with("//")) {
      report(path, 1, "a header starts with a comment that says what it is for");
    }
    if (std::find(lines.begin(), lines.end(), "#pragma once") == lines.end()) {
      report(path, 1, "a header has #pragma once");
    }
  }

  void check_cmake(std::string_view path, const std::vector<std::string_view>& lines) {
    if (!kMayDependOn.contains(folder_of(path))) return;
    for (std::size_t i = 0; i < lines.size(); ++i) {
      for (const auto word : split(lines[i].substr(0, lines[i].find('#')), " \t()\"")) {
        check_cmake_word(path, i + 1, word);
      }
    }
  }

  void check_cmake_word(std::string_view path, std::size_t line, std::string_view word) {
    if (const auto library = folder_of_library_.find(word); library != folder_of_library_.end()) {
      const auto& target = library->second;
      if (target == folder_of(path)) return;
      check_direction(path, line, target);
      declare(path, line, target);
    }
    for (const auto& library : kLibraries) {
      if (word != library.package) continue;
      check_library(path, line, library);
      declare(path, line, library.package);
      break;
    }
  }

  void check_agreement() {
    for (const auto& [folder, dependencies] : dependencies_) {
      if (kUnrestricted.contains(folder) || !kMayDependOn.contains(folder)) continue;
      for (const auto& [name, place] : dependencies.used) {
        if (dependencies.declared.contains(name)) continue;
        report(
            place.file, place.line,
            fmt::format("{} is used here, but {}/CMakeLists.txt does not name it", name, folder));
      }
      for (const auto& [name, place] : dependencies.declared) {
        if (dependencies.used.contains(name) || generated_code_needs(folder, name)) continue;
        report(place.file, place.line,
               fmt::format("{} is named, but nothing here includes it", name));
      }
    }
  }

  // Unfinished work is an issue, not a remark.
  void check_unfinished(std::string_view path, const std::vector<std::string_view>& lines) {
    static const Names kMarks{
        "TO"
        "DO",
        "FIX"
        "ME",
        "X"
        "XX"};
    if (path.ends_with(".md")) return;
    for (std::size_t i = 0; i < lines.size(); ++i) {
      for (const auto word : split(lines[i], " \t/#*:;,.()[]\"'")) {
        if (kMarks.contains(word)) report(path, i + 1, fmt::format("no {} in the tree", word));
      }
    }
  }

  void check_readme(const std::vector<std::string_view>& lines) {
    bool fenced = false;
    for (std::size_t i = 0; i < lines.size(); ++i) {
      if (lines[i].starts_with("```")) fenced = !fenced;
      if (fenced) continue;
      for (const auto quoted : quoted_in(lines[i])) check_path(quoted, i + 1);
    }
  }

  // Suite.Case of every test in the sources.
  std::set<std::string, std::less<>> test_cases() const {
    static const Names kMacros{"TEST", "TEST_F", "TEST_P"};
    std::set<std::string, std::less<>> cases;
    for (const auto& [path, text] : tree_) {
      if (folder_of(path) != "tests" || !is_source(path)) continue;
      const auto words = split(text, " \t\n(),{");
      for (std::size_t i = 0; i + 2 < words.size(); ++i) {
        if (kMacros.contains(words[i])) {
          cases.insert(fmt::format("{}.{}", words[i + 1], words[i + 2]));
        } else if (words[i] == "TABLE_LIFE") {
          cases.insert(fmt::format("{}.Live", words[i + 1]));
          cases.insert(fmt::format("{}.Backlog", words[i + 1]));
        }
      }
    }
    return cases;
  }

  // A promise names the test that keeps it.
  void check_named_tests(const std::vector<std::string_view>& lines) {
    const auto cases = test_cases();
    for (std::size_t i = 0; i < lines.size(); ++i) {
      for (const auto quoted : quoted_in(lines[i])) {
        if (looks_like_a_test(quoted) && !cases.contains(quoted))
          report(kTestsPage, i + 1, fmt::format("there is no test {}", quoted));
      }
    }
  }

  // `a/b.{h,cc}` stands for both.
  void check_path(std::string_view path, std::size_t line) {
    const auto open = path.find('{');
    const auto close = path.find('}');
    if (open != std::string_view::npos && close != std::string_view::npos && open < close) {
      for (const auto part : split(path.substr(open + 1, close - open - 1), ",")) {
        check_path(fmt::format("{}{}{}", path.substr(0, open), part, path.substr(close + 1)), line);
      }
    } else if (looks_like_a_path(path) && !exists(path)) {
      report("README.md", line, fmt::format("{} does not exist", path));
    }
  }

  // Not every slash is ours: 16/B374D848, /metrics and build/release/bitacora are no files here.
  bool looks_like_a_path(std::string_view text) const {
    const auto odd = [](unsigned char c) { return !std::isalnum(c) && !std::strchr("./_-", c); };
    if (text.find('/') == std::string_view::npos || std::any_of(text.begin(), text.end(), odd)) {
      return false;
    }
    if (text.starts_with('/') || text.starts_with("..") || text.starts_with("build/")) return false;
    const auto name = text.substr(text.rfind('/') + 1);
    return text.starts_with("./") || name.empty() || name.find('.') != std::string_view::npos ||
           exists(folder_of(text));
  }

  bool exists(std::string_view path) const {
    while (path.starts_with("./")) path.remove_prefix(2);
    while (path.ends_with('/')) path.remove_suffix(1);
    if (path.empty() || tree_.contains(std::string(path))) return true;
    const auto inside = std::string(path) + "/";
    const auto first = tree_.lower_bound(inside);
    return first != tree_.end() && first->first.starts_with(inside);
  }

  const SourceTree& tree_;
  std::map<std::string, std::string, std::less<>> folder_of_library_;
  std::map<std::string, Dependencies> dependencies_;
  std::vector<Violation> found_;
};

std::string content(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

}  // namespace

std::string Violation::text() const { return fmt::format("{}:{}: {}", file, line, rule); }

SourceTree read_tree(const fs::path& root) {
  static const Names kNotOurs{".git", "build", ".cache"};
  SourceTree tree;
  for (auto at = fs::recursive_directory_iterator(root); at != fs::end(at); ++at) {
    if (at.depth() == 0 && kNotOurs.contains(at->path().filename().string())) {
      at.disable_recursion_pending();
    } else if (at->is_regular_file()) {
      tree[at->path().lexically_relative(root).generic_string()] = content(at->path());
    }
  }
  return tree;
}

std::vector<Violation> violations(const SourceTree& tree) { return Inspection(tree).run(); }

}  // namespace bitacora::tree
