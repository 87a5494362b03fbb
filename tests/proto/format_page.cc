#include "tests/proto/format_page.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace bitacora::harness {

std::string read_page(const std::string& path) {
  const std::ifstream file(path);
  EXPECT_TRUE(file.is_open()) << "run in the root of the source tree";
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string hex_block(const std::string& page, const std::string& name) {
  const std::string fence = "```hex " + name + "\n";
  const auto begin = page.find(fence);
  const auto end = page.find("\n```", begin);
  if (begin == std::string::npos || end == std::string::npos) {
    ADD_FAILURE() << "the page has no block " << fence;
    return {};
  }
  std::istringstream lines(page.substr(begin + fence.size(), end - begin - fence.size()));
  std::string bytes;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream digits(line.substr(0, line.find('#')));
    for (std::string pair; digits >> pair;) {
      bytes += static_cast<char>(std::stoi(pair, nullptr, 16));
    }
  }
  return bytes;
}

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("{:02x} ", static_cast<unsigned char>(c));
  return out;
}

}  // namespace bitacora::harness
