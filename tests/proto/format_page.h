// Reading a FORMAT.md: its worked examples, for the tests that hold them true.
#pragma once

#include <string>
#include <string_view>

namespace bitacora::harness {

// Relative to the root of the source tree, where tests run. A page that is not there fails the
// test.
std::string read_page(const std::string& path);

// The bytes of the page's block ```hex NAME. In each line "#" begins a remark.
std::string hex_block(const std::string& page, const std::string& name);

// "0a 1b ", to compare and to read.
std::string hex(std::string_view bytes);

}  // namespace bitacora::harness
