#include "base/error.h"

#include <cctype>

namespace bitacora {
namespace {

// Folds every run of white space, line breaks included, into one space.
std::string folded(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::isspace(static_cast<unsigned char>(c)) == 0) {
      out += c;
    } else if (!out.empty() && out.back() != ' ') {
      out += ' ';
    }
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace

std::string one_line(const Error& error) {
  std::string line = folded(error.message);
  if (!error.hint.empty()) line += "; " + folded(error.hint);
  return line;
}

}  // namespace bitacora
