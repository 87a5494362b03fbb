// Constants at the end of the rows of COPY's text, whatever the pieces that it comes in.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bitacora::apply {

class ConstantColumns {
 public:
  ConstantColumns() = default;
  // `after_columns`: others come before them.
  ConstantColumns(const std::vector<std::string>& values, bool after_columns);

  bool empty() const { return suffix_.empty(); }
  // The piece with the constants before every line's end. Valid until the next call.
  std::string_view added_to(std::string_view piece);

 private:
  std::string suffix_;
  std::string text_;
};

}  // namespace bitacora::apply
