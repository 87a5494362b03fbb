// WAL positions. The two servers' positions are different types and do not mix.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace bitacora {

// A byte position in one server's WAL; zero is PostgreSQL's InvalidXLogRecPtr.
template <class Server>
struct Position {
  std::uint64_t value = 0;

  friend auto operator<=>(const Position&, const Position&) = default;
  bool valid() const { return value != 0; }
};

using MasterLsn = Position<struct Master>;
using StandbyLsn = Position<struct Standby>;

// The text form of pg_lsn, for example 16/B374D848.
std::string format_lsn(std::uint64_t value);
std::optional<std::uint64_t> parse_lsn(std::string_view text);

template <class Server>
std::string to_string(Position<Server> lsn) {
  return format_lsn(lsn.value);
}

template <class Server>
std::uint64_t bytes_between(Position<Server> from, Position<Server> to) {
  return to.value > from.value ? to.value - from.value : 0;
}

}  // namespace bitacora
