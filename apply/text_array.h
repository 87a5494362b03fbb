// The text form of a PostgreSQL array, for parameters of type text[], bigint[], ...
#pragma once

#include <string>
#include <string_view>

namespace bitacora::apply {

class TextArray {
 public:
  void add(std::string_view element);
  std::string text() const { return text_ + '}'; }

 private:
  std::string text_ = "{";
};

}  // namespace bitacora::apply
