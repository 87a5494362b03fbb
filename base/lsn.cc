#include "base/lsn.h"

#include <charconv>

#include <fmt/format.h>

namespace bitacora {

std::string format_lsn(std::uint64_t value) {
  return fmt::format("{:X}/{:X}", value >> 32, value & 0xFFFFFFFFu);
}

std::optional<std::uint64_t> parse_lsn(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto half = [](std::string_view digits) -> std::optional<std::uint32_t> {
    std::uint32_t value = 0;
    const auto* end = digits.data() + digits.size();
    const auto [at, code] = std::from_chars(digits.data(), end, value, 16);
    if (digits.empty() || code != std::errc{} || at != end) return std::nullopt;
    return value;
  };
  const auto high = half(text.substr(0, slash));
  const auto low = half(text.substr(slash + 1));
  if (!high || !low) return std::nullopt;
  return (static_cast<std::uint64_t>(*high) << 32) | *low;
}

}  // namespace bitacora
