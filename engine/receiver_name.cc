#include "engine/receiver_name.h"

#include <algorithm>

#include <fmt/format.h>

namespace bitacora::engine {
namespace {

constexpr std::size_t kBytesMax = 128;

bool is_refused(char character) {
  const auto byte = static_cast<unsigned char>(character);
  return byte < 0x20 || byte == 0x7f || character == '"' || character == '\'' || character == '\\';
}

}  // namespace

Result<void> check_receiver_name(const std::string& name) {
  const bool fits = !name.empty() && name.size() <= kBytesMax;
  if (fits && std::none_of(name.begin(), name.end(), is_refused)) return {};
  std::string shown = name.substr(0, kBytesMax);
  std::replace_if(shown.begin(), shown.end(), is_refused, '?');
  return Error{ErrorCode::kConfiguration, fmt::format("\"{}\" is no name of a receiver", shown),
               "give --name 1 to 128 bytes without control characters, quotes and backslashes"};
}

}  // namespace bitacora::engine
