#include "apply/constant_columns.h"

namespace bitacora::apply {
namespace {

// As COPY reads it: what would end a column or a line, or begin an escape, is escaped.
void append_escaped(std::string& text, std::string_view value) {
  for (const char c : value) {
    switch (c) {
      case '\\':
        text += "\\\\";
        break;
      case '\n':
        text += "\\n";
        break;
      case '\r':
        text += "\\r";
        break;
      case '\t':
        text += "\\t";
        break;
      default:
        text += c;
    }
  }
}

}  // namespace

ConstantColumns::ConstantColumns(const std::vector<std::string>& values, bool after_columns) {
  for (const auto& value : values) {
    if (after_columns || !suffix_.empty()) suffix_ += '\t';
    append_escaped(suffix_, value);
  }
}

// A line's end inside of a value is escaped.
std::string_view ConstantColumns::added_to(std::string_view piece) {
  text_.clear();
  while (true) {
    const auto end = piece.find('\n');
    text_ += piece.substr(0, end);
    if (end == std::string_view::npos) return text_;
    text_ += suffix_;
    text_ += '\n';
    piece.remove_prefix(end + 1);
  }
}

}  // namespace bitacora::apply
