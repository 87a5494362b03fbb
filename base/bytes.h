// Network byte order integers, the order of PostgreSQL's protocol and of COPY BINARY.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace bitacora {

template <class Integer>
Integer load_big_endian(const char* at) {
  Integer value = 0;
  for (std::size_t i = 0; i < sizeof(Integer); ++i) {
    value = static_cast<Integer>((static_cast<std::uint64_t>(value) << 8) |
                                 static_cast<unsigned char>(at[i]));
  }
  return value;
}

template <class Integer>
void append_big_endian(std::string& out, Integer value) {
  char bytes[sizeof(Integer)];
  for (std::size_t i = 0; i < sizeof(Integer); ++i) {
    bytes[i] =
        static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * (sizeof(Integer) - 1 - i)));
  }
  out.append(bytes, sizeof(Integer));
}

// Reads forward over bytes it does not own. After the first read past the end, ok() stays false and
// every read answers zero or empty: check once at the end.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  template <class Integer>
  Integer integer() {
    const auto field = take(sizeof(Integer));
    return field.size() == sizeof(Integer) ? load_big_endian<Integer>(field.data()) : Integer{0};
  }

  std::string_view take(std::size_t count) {
    if (count > bytes_.size()) {
      ok_ = false;
      bytes_ = {};
      return {};
    }
    const auto field = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return field;
  }

  // Up to a terminating zero byte, which is consumed and not part of the answer.
  std::string_view c_string() {
    const auto end = bytes_.find('\0');
    if (end == std::string_view::npos) {
      ok_ = false;
      bytes_ = {};
      return {};
    }
    const auto text = bytes_.substr(0, end);
    bytes_.remove_prefix(end + 1);
    return text;
  }

  std::string_view rest() const { return bytes_; }
  bool empty() const { return bytes_.empty(); }
  bool ok() const { return ok_; }

 private:
  std::string_view bytes_;
  bool ok_ = true;
};

}  // namespace bitacora
